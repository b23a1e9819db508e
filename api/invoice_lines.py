"""The line of an invoice that a charge went to, and the charges that a line is made of.

An invoice holds the entries of its customer's partition below its position. A usage line has the charges of its price
within its period; an adjustment those that came for an earlier period after that period's invoice was made. So a charge
is on the first invoice that reaches beyond its entry and has a line of its price for its time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from api.queries import Query
from api.sources import Sources
from schemas.money import parse_nanos
from schemas.period import format_time

CHARGES_SHOWN: Final = 50

_LINE_OF: Final = """
SELECT
    line.invoice_id, invoice.number, toString(invoice.state), line.line_id, toString(line.kind), line.description,
    toString(line.exact_amount), toString(line.amount)
FROM
(
    SELECT invoice_id, line_id, kind, description, exact_amount, amount FROM tollgate.invoice_lines
    WHERE tenant = {tenant:String} AND customer = {customer:String} AND kind IN ('usage', 'adjustment')
        AND price_id = {price_id:String} AND meter = {meter:String} AND unit_amount = {unit_amount:String}
        AND period_start <= fromUnixTimestamp64Micro({occurred_at:Int64})
        AND period_end > fromUnixTimestamp64Micro({occurred_at:Int64})
) AS line
INNER JOIN
(
    SELECT invoice_id, number, state, position_seq FROM tollgate.invoices
    WHERE tenant = {tenant:String} AND customer = {customer:String} AND state != 'void'
        AND partition = {partition:UInt16} AND position_seq > {seq:Int64}
) AS invoice
ON invoice.invoice_id = line.invoice_id
ORDER BY invoice.position_seq
LIMIT 1"""
_LINE: Final = """
SELECT
    line.tenant, line.customer, line.line_id, toString(line.kind), line.price_id, line.meter, line.unit_amount,
    line.description, toString(line.quantity), toString(line.exact_amount), toString(line.amount), line.currency,
    toUnixTimestamp64Micro(line.period_start), toUnixTimestamp64Micro(line.period_end),
    invoice.invoice_id, invoice.number, toString(invoice.state), toString(invoice.kind), invoice.revision,
    invoice.position_seq, invoice.partition
FROM
(
    SELECT * FROM tollgate.invoice_lines
    WHERE {condition} AND concat(invoice_id, '/', line_id) = {id:String}
) AS line
INNER JOIN (SELECT * FROM tollgate.invoices WHERE {condition}) AS invoice
ON invoice.tenant = line.tenant AND invoice.invoice_id = line.invoice_id
LIMIT 1"""
_BEFORE: Final = """
SELECT count(), max(position_seq) FROM tollgate.invoices
WHERE tenant = {tenant:String} AND customer = {customer:String} AND state != 'void' AND kind IN ('period', 'final')
    AND position_seq < {to_seq:Int64}"""
_OVERAGE_BEFORE: Final = """
SELECT count(), max(position_seq) FROM tollgate.invoices
WHERE tenant = {tenant:String} AND customer = {customer:String} AND state != 'void' AND kind = 'overage'
    AND period_start < fromUnixTimestamp64Micro({end:Int64}) AND period_end > fromUnixTimestamp64Micro({start:Int64})
    AND position_seq < {to_seq:Int64}"""
_CHARGES: Final = """
SELECT
    concat(toString(partition), '-', toString(seq), '-', toString(number - 1)), source, event_id,
    toUnixTimestamp64Micro(occurred_at), toString(toDecimal128(amount, 0) * toDecimal128('0.000000001', 9)),
    count() OVER (), toString(sum(toDecimal128(amount, 0)) OVER () * toDecimal128('0.000000001', 9))
FROM tollgate.ledger_entries
ARRAY JOIN
    charge.price_id AS price, charge.meter AS measured, charge.unit_amount AS unit, charge.amount AS amount,
    arrayEnumerate(charge.meter) AS number
WHERE tenant = {tenant:String} AND customer = {customer:String}
    AND occurred_at >= fromUnixTimestamp64Micro({start:Int64}) AND occurred_at < fromUnixTimestamp64Micro({end:Int64})
    AND seq >= {from_seq:Int64} AND seq < {to_seq:Int64}
    AND price = {price_id:String} AND measured = {meter:String} AND unit = {unit_amount:String}
ORDER BY seq, number
LIMIT {limit:UInt32}"""


async def line_of_charge(sources: Sources, row: Mapping[str, Any], charge: Mapping[str, Any]) -> dict[str, Any] | None:
    """The line that a charge of an entry went to; None as long as no invoice has it."""
    if charge["price_id"] is None:
        return None
    asked = {
        "tenant": row["tenant"],
        "customer": row["customer"],
        "price_id": charge["price_id"],
        "meter": charge["meter"],
        "unit_amount": charge["unit_amount"] or "",
        "occurred_at": row["occurred_at"],
        "partition": row["partition"],
        "seq": row["seq"],
    }
    found = await sources.rows.fetch(Query(_LINE_OF, asked))
    if not found:
        return None
    invoice_id, number, state, line_id, kind, description, exact, amount = found[0]
    return {
        "id": f"{invoice_id}/{line_id}",
        "invoice_id": invoice_id,
        "number": number,
        "state": state,
        "kind": kind,
        "description": description,
        "exact_amount": exact,
        "amount": amount,
    }


async def explain_line(sources: Sources, tenant: str | None, name: str) -> dict[str, Any] | None:
    """A line of an invoice by `invoice/line`: the invoice it is on, and, of usage, the charges it is made of."""
    condition = "true" if tenant is None else "tenant = {tenant:String}"
    asked = {"id": name} if tenant is None else {"id": name, "tenant": tenant}
    found = await sources.rows.fetch(Query(_LINE.replace("{condition}", condition), asked))
    if not found:
        return None
    (owner, customer, line_id, kind, price_id, meter, unit_amount, description, quantity, exact, amount, currency,
     start, end, invoice_id, number, state, invoice_kind, revision, position, partition) = found[0]  # fmt: skip
    explained: dict[str, Any] = {
        "kind": "line",
        "id": name,
        "tenant": owner,
        "customer": customer,
        "invoice": {
            "invoice_id": invoice_id,
            "number": number,
            "state": state,
            "kind": invoice_kind,
            "revision": int(revision),
            "partition": int(partition),
            "position_seq": int(position),
        },
        "line": {
            "line_id": line_id,
            "kind": kind,
            "price_id": price_id or None,
            "meter": meter or None,
            "unit_amount": unit_amount or None,
            "description": description,
            "quantity": quantity,
            "exact_amount": exact,
            "amount": amount,
            "currency": currency,
            "period": {"start": format_time(int(start)), "end": format_time(int(end))},
        },
        "charges": None,
    }
    if kind in ("usage", "adjustment") and price_id:
        names = {
            "tenant": owner,
            "customer": customer,
            "price_id": price_id,
            "meter": meter,
            "unit_amount": unit_amount,
            "start": int(start),
            "end": int(end),
            "to_seq": int(position),
        }
        explained["charges"] = await _charges(sources, names, adjusting=kind == "adjustment", exact=exact)
    return explained


async def _charges(sources: Sources, names: dict[str, str | int], *, adjusting: bool, exact: str) -> dict[str, Any]:
    """Those that came after the invoice before: of late usage the customer's last, else the period's last overage."""
    asked = ("tenant", "customer", "to_seq") if adjusting else ("tenant", "customer", "to_seq", "start", "end")
    before = Query(_BEFORE if adjusting else _OVERAGE_BEFORE, {name: names[name] for name in asked})
    ((count, position),) = await sources.rows.fetch(before)
    from_seq = int(position) if int(count) else 0
    rows = await sources.rows.fetch(Query(_CHARGES, {**names, "from_seq": from_seq, "limit": CHARGES_SHOWN}))
    amount = rows[0][6] if rows else "0"
    return {
        "count": int(rows[0][5]) if rows else 0,
        "amount": amount,
        "is_all_of_the_line": parse_nanos(amount) == parse_nanos(exact),
        "shown": [
            {
                "charge_id": charge_id,
                "source": source,
                "event_id": event_id,
                "occurred_at": format_time(int(occurred_at)),
                "amount": each,
            }
            for charge_id, source, event_id, occurred_at, each, *_ in rows
        ],
    }

"""The last equations of `reconcile`: rated rows = usage lines of final invoices, and lines = totals. From ClickHouse.

A final invoice of a period has billed the charges of its time whose entries lie below its position, and, by its
adjustments, those of earlier periods between two positions. Both sides are summed from the rows themselves. Sums are
nanos. Errors: Unavailable.
"""

from __future__ import annotations

import time
from typing import Any, Final

from clickhouse_connect.driver.exceptions import ClickHouseError

from invoicing.reconcile import Equation
from schemas.clickhouse import connect
from schemas.errors import Unavailable

FOLLOW_SECONDS: Final = 5.0
"""How long a number on its way is waited for."""

_FINAL: Final = "JSONExtractString(body, 'state') IN ('open', 'paid', 'overdue', 'uncollectible')"

_BILLED: Final = f"""
WITH
    text -> toUnixTimestamp64Micro(parseDateTime64BestEffort(text, 6, 'UTC')) AS micros,
    final AS
    (
        SELECT tenant, customer, id, body
        FROM tollgate.documents
        WHERE kind = 'invoice' AND {_FINAL} AND JSONExtractString(body, 'kind') IN ('period', 'final', 'overage')
    ),
    asked AS
    (
        SELECT
            tenant,
            customer,
            id,
            micros(JSONExtractString(body, 'period', 'start')) AS start,
            micros(JSONExtractString(body, 'period', 'end')) AS end,
            JSONExtractInt(covered, 1) AS from_seq,
            JSONExtractInt(covered, 2) AS to_seq
        FROM final
        ARRAY JOIN JSONExtractArrayRaw(body, 'position', 'covers') AS covered
        UNION ALL
        SELECT
            tenant,
            customer,
            id,
            micros(JSONExtractString(one, 'start')) AS start,
            micros(JSONExtractString(one, 'end')) AS end,
            JSONExtractInt(one, 'from') AS from_seq,
            JSONExtractInt(one, 'to') AS to_seq
        FROM final
        ARRAY JOIN JSONExtractArrayRaw(body, 'adjusts') AS one
    ),
    lined AS
    (
        SELECT
            tenant,
            id,
            arraySum(
                line -> if(
                    JSONExtractString(line, 'kind') IN ('usage', 'adjustment'),
                    toDecimal128(JSONExtractString(line, 'exact_amount'), 9),
                    toDecimal128(0, 9)
                ),
                JSONExtractArrayRaw(body, 'lines')
            ) AS amount
        FROM final
    ),
    charged AS
    (
        SELECT asked.tenant AS tenant, asked.id AS id, sum(entry.charged) AS nanos
        FROM
        (
            SELECT tenant, customer, seq, toUnixTimestamp64Micro(occurred_at) AS occurred,
                arraySum(amount -> toInt256(amount), charge.amount) AS charged
            FROM tollgate.ledger_entries
            WHERE notEmpty(charge.amount) AND (tenant, customer) IN (SELECT tenant, customer FROM final)
        ) AS entry
        INNER JOIN asked ON entry.tenant = asked.tenant AND entry.customer = asked.customer
        WHERE entry.occurred >= asked.start AND entry.occurred < asked.end
          AND entry.seq >= asked.from_seq AND entry.seq < asked.to_seq
        GROUP BY asked.tenant, asked.id
    )
SELECT
    count(),
    countIf(toInt256(lined.amount * 1000000000) = charged.nanos),
    sum(toInt256(lined.amount * 1000000000)),
    sum(charged.nanos)
FROM lined
LEFT JOIN charged ON lined.tenant = charged.tenant AND lined.id = charged.id
"""  # noqa: S608 - texts of our own

_TOTALS: Final = """
SELECT
    count(),
    countIf(total = lines AND subtotal + tax = total),
    sum(toInt256(total * 1000000000)),
    sum(toInt256(lines * 1000000000))
FROM
(
    SELECT
        toDecimal128(JSONExtractString(body, 'total'), 9) AS total,
        toDecimal128(JSONExtractString(body, 'subtotal'), 9) AS subtotal,
        toDecimal128(JSONExtractString(body, 'tax'), 9) AS tax,
        arraySum(
            line -> toDecimal128(JSONExtractString(line, 'amount'), 9), JSONExtractArrayRaw(body, 'lines')
        ) AS lines
    FROM tollgate.documents
    WHERE kind = 'invoice'
)
"""

_NUMBERS: Final = """
SELECT count(), uniqExact(tenant, JSONExtractString(body, 'number'))
FROM tollgate.documents
WHERE kind = 'invoice' AND JSONExtractString(body, 'number') != ''
"""

_LAST: Final = """
SELECT sum(JSONExtractInt(body, 'last')) FROM tollgate.documents WHERE kind = 'counter' AND id = 'invoice_numbers'
"""


def invoice_equations(url: str) -> list[Equation]:
    """Each query is one look at everything."""
    try:
        client = connect(url)
        ((final, right, lined, charged),) = client.query(_BILLED).result_rows
        ((invoices, adding_up, totals, lines),) = client.query(_TOTALS).result_rows
        deadline = time.monotonic() + FOLLOW_SECONDS
        while True:
            # A number is given in one partition and taken in another: one on its way shows a moment later.
            ((last,),) = client.query(_LAST).result_rows
            ((numbered, numbers),) = client.query(_NUMBERS).result_rows
            if int(last or 0) == int(numbered) or time.monotonic() > deadline:
                break
            time.sleep(0.2)
    except (ClickHouseError, OSError) as error:
        raise Unavailable(f"clickhouse: {error}") from error
    return [
        _equation("final invoices = invoices whose usage is the sum of their rated rows", final, right),
        _equation("rated rows of billed periods = usage lines of final invoices", charged, lined, money=True),
        _equation("invoices = invoices whose lines add up", invoices, adding_up),
        _equation("invoice totals = sum of invoice lines", totals, lines, money=True),
        _equation("invoice numbers = distinct numbers", numbered, numbers),
        _equation("last invoice numbers = invoices with a number", last, numbered),
    ]


def _equation(name: str, left: Any, right: Any, *, money: bool = False) -> Equation:
    return Equation(name, int(left or 0), int(right or 0), None, money)

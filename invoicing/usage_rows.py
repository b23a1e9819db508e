"""What invoices ask of the ledger's rows in ClickHouse: who has something to bill, and sums of charges by price.

Every sum is of entries below a stated seq of the customer's partition, so what is asked twice is answered alike. A
customer is asked about together with a page of others: memory is that of a page's sums, whatever the number of charges.

`covered` is what of the charges the wallet paid at or above zero (of a postpaid customer: what its credits paid): of an
entry, max(0, balance before) - max(0, balance after), given to its charges in their order. Called in threads. Errors:
Unavailable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from clickhouse_connect.driver.exceptions import ClickHouseError

from schemas.clickhouse import connect
from schemas.errors import Unavailable
from schemas.period import Period


class Ask(NamedTuple):
    """A customer's charges of a time, of entries from a seq up to before another."""

    customer: str
    period: Period
    from_seq: int
    to_seq: int


class PriceSum(NamedTuple):
    """Charges of one price summed."""

    customer: str
    period: Period
    currency: str
    price_id: str
    meter: str
    unit_amount: str
    catalog_version: int
    """The newest that priced any of them."""
    quantity: int
    """Nano-units."""
    amount: int
    """Nanos."""
    covered: int
    events: int


def by_customer(sums: Iterable[PriceSum]) -> dict[str, list[PriceSum]]:
    """Sums of a page, apart."""
    found: dict[str, list[PriceSum]] = {}
    for one in sums:
        found.setdefault(one.customer, []).append(one)
    return found


_CUSTOMERS: Final = """
SELECT DISTINCT tenant, customer
FROM tollgate.ledger_entries
WHERE (tenant, customer) > ({tenant:String}, {customer:String})
  AND ({only:String} = '' OR tenant = {only:String})
  AND (
    (
        notEmpty(charge.amount)
        AND occurred_at < fromUnixTimestamp64Micro({end:Int64})
        AND greatest(occurred_at, rated_at) >= fromUnixTimestamp64Micro({since:Int64})
    )
    OR has(document.kind, 'subscription')
  )
ORDER BY tenant, customer
LIMIT {limit:UInt32}
"""

_SUMS: Final = """
SELECT
    asked.customer, asked.start, asked.end, currency, price_id, meter, unit_amount,
    max(version),
    sum(toInt256(units) * 1000000000 + toInt256(fraction)),
    sum(toInt256(amount)),
    sum(toInt256(part)),
    count()
FROM
(
    SELECT customer, seq, occurred, price_id, meter, unit_amount, version, currency, units, fraction, amount, part
    FROM
    (
        WITH
            arraySum(
                (kind, moved, after) -> if(
                    kind IN ('charge', 'correction'), greatest(after - moved, 0) - greatest(after, 0), 0
                ),
                posting.kind, posting.amount, posting.balance_after
            ) AS paid
        SELECT
            customer,
            seq,
            toUnixTimestamp64Micro(occurred_at) AS occurred,
            charge.price_id AS price_ids,
            charge.meter AS meters,
            charge.unit_amount AS unit_amounts,
            charge.catalog_version AS versions,
            charge.currency AS currencies,
            charge.quantity_units AS whole,
            charge.quantity_nanos AS fractions,
            charge.amount AS amounts,
            arrayMap(
                (of, to) -> if(
                    paid >= 0,
                    least(to, paid) - least(to - of, paid),
                    greatest(to, paid) - greatest(to - of, paid)
                ),
                charge.amount,
                arrayCumSum(charge.amount)
            ) AS parts
        FROM tollgate.ledger_entries
        WHERE tenant = {tenant:String}
          AND customer IN {customers:Array(String)}
          AND occurred_at >= fromUnixTimestamp64Micro({start:Int64})
          AND occurred_at < fromUnixTimestamp64Micro({end:Int64})
          AND seq >= {from_seq:Int64}
          AND notEmpty(charge.amount)
    )
    ARRAY JOIN
        price_ids AS price_id, meters AS meter, unit_amounts AS unit_amount, versions AS version,
        currencies AS currency, whole AS units, fractions AS fraction, amounts AS amount, parts AS part
) AS charged
INNER JOIN
(
    SELECT one.1 AS customer, one.2 AS start, one.3 AS end, one.4 AS from_seq, one.5 AS to_seq
    FROM
    (
        SELECT arrayJoin(arrayZip(
            {names:Array(String)}, {starts:Array(Int64)}, {ends:Array(Int64)}, {froms:Array(Int64)},
            {tos:Array(Int64)}
        )) AS one
    )
) AS asked ON charged.customer = asked.customer
WHERE occurred >= asked.start AND occurred < asked.end AND seq >= asked.from_seq AND seq < asked.to_seq
GROUP BY asked.customer, asked.start, asked.end, currency, price_id, meter, unit_amount
ORDER BY asked.customer, asked.start, meter, price_id, unit_amount
"""

# Of the last blocks alone, which parts know by themselves: it is asked again and again while a close waits for rows,
# and would read a column of the whole table (of 10 million rows 4 parts of 40: 17 to 24 ms instead of 54 to 103).
_ENDS: Final = """
SELECT partition, max(seq) + 1 FROM tollgate.ledger_entries
WHERE (partition, block_seq) IN (SELECT partition, max(block_seq) FROM tollgate.ledger_entries GROUP BY partition)
GROUP BY partition
"""


class UsageRows:
    """Each call is one query."""

    def __init__(self, url: str) -> None:
        self._client = connect(url)

    def ends(self) -> dict[int, int]:
        """By partition: the seq after the greatest that ClickHouse has."""
        return {int(partition): int(end) for partition, end in self._query(_ENDS, {})}

    def customers(
        self, after: tuple[str, str], since: int, end: int, limit: int, tenant: str = ""
    ) -> list[tuple[str, str]]:
        """The next tenants and customers that may have something to bill in a time, in order; internal ones are not
        among them."""
        rows = self._query(
            _CUSTOMERS,
            {"tenant": after[0], "customer": after[1], "since": since, "end": end, "limit": limit, "only": tenant},
        )
        return [(str(of), str(customer)) for of, customer in rows]

    def sums(self, tenant: str, asks: Sequence[Ask]) -> list[PriceSum]:
        """Charges summed by ask, currency and price."""
        if not asks:
            return []
        rows = self._query(
            _SUMS,
            {
                "tenant": tenant,
                "customers": sorted({ask.customer for ask in asks}),
                "start": min(ask.period.start for ask in asks),
                "end": max(ask.period.end for ask in asks),
                "from_seq": min(ask.from_seq for ask in asks),
                "names": [ask.customer for ask in asks],
                "starts": [ask.period.start for ask in asks],
                "ends": [ask.period.end for ask in asks],
                "froms": [ask.from_seq for ask in asks],
                "tos": [ask.to_seq for ask in asks],
            },
        )
        return [
            PriceSum(
                str(of), Period(int(start), int(end)), str(currency), str(price), str(meter), str(unit), *map(int, sums)
            )
            for of, start, end, currency, price, meter, unit, *sums in rows
        ]

    def documents(self, kind: str, condition: str, parameters: dict[str, Any]) -> list[tuple[str, str, str, str]]:
        """Tenant, customer, id and body of the newest documents of a kind that meet a condition on `body`."""
        rows = self._query(
            f"SELECT tenant, customer, id, body FROM tollgate.documents WHERE kind = {{kind:String}} AND {condition}",  # noqa: S608 - conditions of our own
            {"kind": kind, **parameters},
        )
        return [(str(tenant), str(customer), str(name), str(body)) for tenant, customer, name, body in rows]

    def _query(self, query: str, parameters: dict[str, Any]) -> Iterable[Sequence[Any]]:
        try:
            return list(self._client.query(query, parameters=parameters).result_rows)
        except (ClickHouseError, OSError) as error:
            raise Unavailable(f"clickhouse: {error}") from error

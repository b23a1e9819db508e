"""Sums over the ledger's rows in ClickHouse, for `reconcile`. Called in threads.

Sums are 256 bit wide: an Int64 would wrap at what a few thousand customers spend in a year.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from clickhouse_connect.driver.exceptions import ClickHouseError

from invoicing.reconcile import Sums
from schemas.clickhouse import connect
from schemas.errors import Unavailable
from schemas.period import Period


class RowSums:
    """Each call is one query. Errors: Unavailable."""

    def __init__(self, url: str, period: Period | None) -> None:
        self._client = connect(url)
        self._period = period or Period(-(2**62), 2**62)

    def counts(self) -> dict[int, int]:
        """Rows by partition."""
        return dict(self._query("SELECT partition, count() FROM tollgate.ledger_entries GROUP BY partition"))

    def ends(self) -> dict[int, int]:
        """By partition: the seq after the greatest."""
        return dict(self._query("SELECT partition, max(seq) + 1 FROM tollgate.ledger_entries GROUP BY partition"))

    def foreign(self, partition: int, ledger_id: str) -> int:
        """Rows of a partition that name another ledger."""
        ((count,),) = self._query(
            "SELECT count() FROM tollgate.ledger_entries "
            "WHERE partition = {partition:UInt16} AND ledger_id != {name:String}",
            partition=partition,
            name=ledger_id,
        )
        return int(count)

    def sums(self, partition: int, until_seq: int) -> Sums:
        """Of the entries of a partition below a seq; charges of the period alone."""
        (found,) = self._query(
            """
            WITH
                toUnixTimestamp64Micro(occurred_at) AS occurred,
                occurred >= {start:Int64} AND occurred < {end:Int64} AS within,
                arraySum(amount -> toInt256(amount), charge.amount) AS charged,
                arraySum(amount -> toInt256(amount), posting.amount) AS posted
            SELECT
                count(),
                countIf(outcome = 'rated'),
                countIf(outcome = 'duplicate'),
                countIf(outcome = 'ignored'),
                countIf(outcome = 'dead_letter'),
                sumIf(length(charge.amount), within),
                sumIf(charged, within),
                sumIf(charged * (toInt256(seq) + 1), within),
                sumIf(
                    arraySum(
                        (units, nanos) -> toInt256(units) * 1000000000 + toInt256(nanos),
                        charge.quantity_units,
                        charge.quantity_nanos
                    ),
                    within
                ),
                sum(length(posting.amount)),
                sum(posted),
                sum(posted * (toInt256(seq) + 1)),
                sum(arraySum(balance -> toInt256(balance), posting.balance_after))
            FROM tollgate.ledger_entries
            WHERE partition = {partition:UInt16} AND seq < {until:Int64}
            """,
            partition=partition,
            until=until_seq,
            start=self._period.start,
            end=self._period.end,
        )
        entries, rated, duplicate, ignored, dead_letter, *rest = found
        outcomes = Counter(rated=rated, duplicate=duplicate, ignored=ignored, dead_letter=dead_letter)
        return Sums(entries, outcomes, *rest)

    def dead_letters(self, partition: int, until_seq: int) -> int:
        """Dead letters that the view shows, of entries below a seq."""
        ((count,),) = self._query(
            "SELECT count() FROM tollgate.dead_letters WHERE partition = {partition:UInt16} AND seq < {until:Int64}",
            partition=partition,
            until=until_seq,
        )
        return int(count)

    def shared_identities(self) -> int:
        """Identities that are booked under more than one customer of a tenant."""
        ((count,),) = self._query(
            """
            SELECT count()
            FROM (
                SELECT tenant, source, event_id
                FROM tollgate.ledger_entries
                WHERE fingerprints != ''
                GROUP BY tenant, source, event_id
                HAVING uniqExact(customer) > 1
            )
            """
        )
        return int(count)

    def _query(self, query: str, **parameters: Any) -> list[Any]:
        try:
            return list(self._client.query(query, parameters=parameters).result_rows)
        except (ClickHouseError, OSError) as error:
            raise Unavailable(f"clickhouse: {error}") from error

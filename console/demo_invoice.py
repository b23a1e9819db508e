"""The demo's invoice: a month of one customer closed, finalized, shown, written as a PDF, and held against the ledger.

The customer pays afterwards, with tax: what it used is owed until the invoice is paid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any, Final, Protocol

from invoicing.by_day import Day
from invoicing.opening import opened
from invoicing.render import pdf, text
from invoicing.seller import Seller
from schemas.commands import CUSTOMER_PUT, Command
from schemas.errors import Unavailable
from schemas.period import format_time, parse_month
from schemas.settings import Settings
from streams.commands import DONE

CUSTOMER: Final = "customer-000000"
"""The busiest of the traces."""

MONTH: Final = "2023-11"
"""Of the trace of language model calls."""

TAX_RATE: Final = "0.19"
FIELDS: Final[dict[str, Any]] = {
    "name": "Northwind Research",
    "email": "billing@northwind.example",
    "address": "12 Harbour Street\nRotterdam",
    "tax_id": "NL000000000B01",
    "tax_rate": TAX_RATE,
    "currency": "USD",
    "collection": "postpaid",
}
SELLER: Final = Seller(
    "Tollgate demo", "1 Meter Lane\nExampleville", "US-00-0000000", "Transfer to IBAN DE00 0000 0000 0000 0000 00."
)
_CENT: Final = Decimal("0.01")


class Rows(Protocol):
    """What is asked of ClickHouse."""

    def rows(self, query: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Rows of a query, in which {tenant:String} is the demo's."""


@dataclass(frozen=True, slots=True)
class Check:
    """A sum of the invoice beside the ledger's."""

    name: str
    invoice: Decimal
    ledger: Decimal


async def introduce(settings: Settings, tenant: str) -> None:
    """Who the customer is, before anything is charged. Errors: Unavailable."""
    async with opened(settings) as closer:
        command = Command(tenant, CUSTOMER, CUSTOMER_PUT, f"{tenant}:who", {"fields": FIELDS, "merge": False})
        operation = await closer.settled(command)
    if operation.status != DONE:
        raise Unavailable(f"the demo's customer was not taken: {operation.reason} {operation.detail}")


async def bill(settings: Settings, tenant: str) -> tuple[dict[str, Any], list[Day]]:
    """The final invoice of the customer's month, and its usage by day. Errors: Unavailable."""
    async with opened(settings) as closer:
        summary = await closer.close(parse_month(MONTH, "/period"), tenant=tenant, customer=CUSTOMER)
        ((_, invoice_id),) = summary.invoices
        body = await closer.finalize(tenant, invoice_id)
        return body, await closer.days(tenant, body)


def write(settings: Settings, body: Mapping[str, Any], days: Sequence[Day]) -> Path:
    """The invoice as a file in the data dir."""
    folder = settings.data_dir / "invoices"
    folder.mkdir(parents=True, exist_ok=True)
    path: Path = folder / f"{body['id']}.pdf"
    path.write_bytes(pdf(body, days, SELLER))
    return path


def shown(body: Mapping[str, Any]) -> str:
    """The invoice for a terminal."""
    return text(body, (), SELLER)


def checks(database: Rows, body: Mapping[str, Any]) -> list[Check]:
    """What the invoice says beside what the ledger says: its charges to the nano, and its total.

    The ledger's side is made of its rows alone: what each price came to in the month, rounded to cents, half up, and
    taxed.
    """
    month = parse_month(MONTH, "/period")
    prices = database.rows(
        """
        SELECT price_id, unit_amount, sum(amount)
        FROM tollgate.rated_usage
        WHERE tenant = {tenant:String} AND customer = {customer:String}
            AND occurred_at >= parseDateTime64BestEffort({start:String}, 6, 'UTC')
            AND occurred_at < parseDateTime64BestEffort({end:String}, 6, 'UTC')
        GROUP BY price_id, unit_amount
        """,
        customer=CUSTOMER,
        start=format_time(month.start),
        end=format_time(month.end),
    )
    amounts = [Decimal(amount) for *_, amount in prices]
    lines = [Decimal(line["exact_amount"]) for line in body["lines"] if line["kind"] == "usage"]
    supplied = sum(map(_cents, amounts), Decimal(0))
    return [
        Check("charges", sum(lines, Decimal(0)), sum(amounts, Decimal(0))),
        Check("total", Decimal(body["total"]), supplied + _cents(supplied * Decimal(TAX_RATE))),
    ]


def _cents(amount: Decimal) -> Decimal:
    return amount.quantize(_CENT, ROUND_HALF_UP)

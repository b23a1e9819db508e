"""What a close came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from schemas.invoice import money_of

INVOICES_TOLD: Final = 1_000
"""Of one close, with their ids."""


@dataclass(slots=True)
class Summary:
    """What a close came to."""

    customers: int = 0
    periods: int = 0
    drafted: int = 0
    """Drafts made or made anew."""
    unchanged: int = 0
    empty: int = 0
    """Periods with nothing to bill, or whose invoice is final."""
    lines: int = 0
    totals: dict[str, int] = field(default_factory=dict)
    """By currency: nanos of all drafts seen."""
    invoices: list[tuple[str, str]] = field(default_factory=list)
    """Tenants and ids of drafts; at most those of the first 1,000."""
    page: list[tuple[str, str]] = field(default_factory=list)
    """Those of the customers at hand, all of them."""

    def add(self, tenant: str, invoice: Mapping[str, Any]) -> None:
        """A draft that stands after it."""
        self.lines += len(invoice["lines"])
        currency = invoice["currency"]
        self.totals[currency] = self.totals.get(currency, 0) + money_of(invoice, "total")
        if len(self.invoices) < INVOICES_TOLD:
            self.invoices.append((tenant, invoice["id"]))
        self.page.append((tenant, invoice["id"]))

    def take_page(self) -> list[tuple[str, str]]:
        """The drafts of the customers at hand, who are done with."""
        page, self.page = self.page, []
        return page

    def document(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "customers": self.customers,
            "periods": self.periods,
            "drafted": self.drafted,
            "unchanged": self.unchanged,
            "empty": self.empty,
            "lines": self.lines,
        }

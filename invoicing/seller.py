"""Who bills, as its invoices name it."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.settings import Settings


@dataclass(frozen=True, slots=True)
class Seller:
    """Its name, address and tax id, and how to pay it. Whatever is empty is not shown."""

    name: str = ""
    address: str = ""
    """Lines."""
    tax_id: str = ""
    remittance: str = ""
    """How to pay, in words: an account, a link."""


def seller_of(settings: Settings) -> Seller:
    """As the settings say."""
    address = "\n".join(line.strip() for line in (settings.seller_address or "").split(";"))
    return Seller(settings.seller_name or "", address, settings.seller_tax_id or "", settings.seller_remittance or "")

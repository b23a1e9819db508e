"""What the parts of a ledger record weigh while a chunk is decided: bytes, estimated from above, so that no record
grows beyond its bound.
"""

from __future__ import annotations

from typing import Final

from rating.wallet import Burnt
from schemas.account import Account, pack_account
from schemas.ledger import Rate

# Bytes in an encoded record, from above. The names of an entry weigh no more than in the event they were read from, but
# for the customer's, which may stand there once and in the entry twice.
UTF8: Final = 4
WIDE_BYTES: Final = 40
COUNTER_BYTES: Final = 80
ENTRY_BYTES: Final = 200
CHARGE_BYTES: Final = 24
POSTING_BYTES: Final = 100
_GRANT_BYTES: Final = 64
DOCUMENT_BYTES: Final = 32


def utf8(text: str) -> int:
    """Bytes of a text, from above."""
    return len(text) if text.isascii() else UTF8 * len(text)


def rate_bytes(rate: Rate) -> int:
    """A rate."""
    names = len(rate.meter) + len(rate.price_id) + len(rate.unit_amount)
    return 40 + UTF8 * (names + sum(len(name) + len(text) + 2 for name, text in rate.dimensions))


def burnt_bytes(burnt: Burnt) -> int:
    """What a posting burnt."""
    if len(burnt) == 1:  # nearly always, and a generator costs more than all the rest
        return 22 + utf8(burnt[0][0])
    return 8 + sum(14 + utf8(credit_id) for credit_id, _ in burnt) if burnt else 0


def account_bytes(account: Account | None, key: str) -> int:
    """An account's values after and their key, but for what the event itself adds to them."""
    if account is None:
        return 64 + 2 * utf8(key)
    grants = account.grants
    plain = not (account.counters or account.spans or account.allocations or account.terms.own)
    if plain and (not grants or (len(grants) == 1 and not grants[0].scope)):
        credit = _GRANT_BYTES + utf8(grants[0].credit_id) if grants else 0
        return 120 + 2 * utf8(key) + utf8(account.plan) + credit
    return 16 + utf8(key) + len(pack_account(account))

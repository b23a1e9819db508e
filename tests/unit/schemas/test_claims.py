"""Claims: what may happen once is named the same by every event that tells of it, and by nothing else."""

from __future__ import annotations

import json
from typing import Any

from schemas.claims import CLAIMING, Claim, claim_identity
from schemas.event import Event, decode
from tests.fakes.partition import MAX_FUTURE, NOW, granted, paid, refunded, released, tokens


def read(value: dict[str, Any]) -> Event:
    return decode(json.dumps(value).encode(), NOW, MAX_FUTURE)


def made(value: dict[str, Any]) -> tuple[Claim, ...]:
    return read(value).claims


def test_only_types_that_claim_make_claims() -> None:
    """An event of any other type claims nothing beside its identity."""
    assert made(tokens(1)) == ()
    assert tokens(1)["type"] not in CLAIMING
    for value in (released(1), granted(1), paid(1), refunded(1)):
        assert value["type"] in CLAIMING
        assert made(value)


def test_a_claim_does_not_depend_on_who_tells_of_it() -> None:
    """Another id, source or time of the event, or another spelling of its times, is the same claim."""
    again = released(2, source="elsewhere", time="2026-11-02T00:00:00Z")
    again["data"]["allocated_at"] = "2026-11-01T02:00:00+02:00"
    assert made(released(1)) == made(again)
    (told,), (other,) = made(released(1)), made(released(1, seconds=61))
    assert (told.identity, told.content != other.content) == (other.identity, True)


def test_claims_differ_by_tenant_customer_kind_and_name() -> None:
    """No two of them collide, nor where the same letters are split otherwise."""
    named = [
        ("t", "c", "payment", "x"),
        ("u", "c", "payment", "x"),
        ("t", "d", "payment", "x"),
        ("t", "c", "credit", "x"),
        ("t", "c", "payment", "y"),
        ("tc", "", "payment", "x"),
        ("t", "cp", "ayment", "x"),
    ]
    assert len({claim_identity(*names) for names in named}) == len(named)
    assert read(released(1)).identity != made(released(1))[0].identity


def test_a_payment_claims_itself_and_the_invoice_it_pays() -> None:
    """In this order: the first that stands decides. Its order's claim is for who brings the credit: its effect's."""
    kinds = [claim.kind for claim in made(paid(1, order_id="o", invoice_id="i"))]
    assert kinds == ["payment", "invoice_payment"]
    assert [claim.kind for claim in made(paid(1))] == ["payment"]

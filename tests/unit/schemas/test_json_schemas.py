"""The published schemas are what the types say, all of them and no other."""

from __future__ import annotations

from schemas.billing_events import BILLING_EVENTS
from schemas.json_schemas import FOLDER, generated, written


def test_the_files_are_what_the_types_say() -> None:
    """`python -m schemas.json_schemas` would change nothing."""
    found = {path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in FOLDER.rglob("*.json")}
    assert found == {name: written(schema) for name, schema in generated().items()}


def test_patterns_are_read_by_any_validator() -> None:
    """JSON Schema's dialect knows no `\\Z`."""
    assert not [name for name, schema in generated().items() if rb"\\Z" in written(schema)]


def test_no_command_of_ours_is_published() -> None:
    """They are nobody's to send."""
    assert not [name for name in generated() if "tollgate." in name]


def test_every_event_that_the_contract_names_has_a_schema() -> None:
    """By its words for wallets, billing and quotas."""
    named = {f"wallet.{what}" for what in (
        "created", "deposited", "consumed", "withdrawn", "transferred", "refunded", "balance_changed",
        "insufficient_funds",
    )} | {
        "usage.recorded", "billing.processed", "billing.calculated", "billing.record_created",
        "quota.threshold_reached",
        "quota.exceeded", "invoice.created", "invoice.finalized", "invoice.paid", "invoice.overdue", "invoice.voided",
    }  # fmt: skip
    assert named <= BILLING_EVENTS.keys()

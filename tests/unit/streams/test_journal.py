"""The journal of holds reads what it has ever written, and nothing that it does not know."""

from __future__ import annotations

import msgspec
import pytest

from ingest.accept import Record
from schemas.errors import InvariantBroken
from streams.admission.journal import HoldJournal, Line, lines_of, sheet_of
from streams.admission.values import Hold, pack_hold

HOLD = Hold("d", 1, 5, "s", "", ["money"], [""], ["0" * 30], "", "USD", "", "{}")
_pack = msgspec.msgpack.Encoder().encode


class Outbox:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.slips: list[tuple[Record, int | None]] = []

    def put(self, record: Record, sheet: int | None = None) -> None:
        self.slips.append((record, sheet))


def test_lines_that_went_together_are_read_in_their_order() -> None:
    """Of a hold's lines the last stands."""
    outbox = Outbox()
    journal = HoldJournal(outbox)  # type: ignore[arg-type]
    journal.opened(3, "4:acme:c-1", "h-1", pack_hold(HOLD))
    journal.ended(3, "4:acme:c-1", "h-1")
    assert [sheet for _, sheet in outbox.slips] == [3, 3]
    record = sheet_of([record.value for record, _ in outbox.slips])
    assert lines_of(record) == [Line(1, "4:acme:c-1", "h-1", HOLD), Line(1, "4:acme:c-1", "h-1", None)]


def test_a_line_that_went_alone_is_read() -> None:
    """As records of format 1 are."""
    assert lines_of(_pack([1, "4:acme:c-1", "h-1", HOLD])) == [Line(1, "4:acme:c-1", "h-1", HOLD)]


@pytest.mark.parametrize(
    "value", [[3, []], [3, "4:acme:c-1", "h-1", None], [2, [[9, "4:acme:c-1", "h-1", None]]], [2, "lines"], [1], "text"]
)
def test_what_is_not_known_is_not_passed_over(value: object) -> None:
    """A hold that is not brought back is lost."""
    with pytest.raises(InvariantBroken):
        lines_of(_pack(value))

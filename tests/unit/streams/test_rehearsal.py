"""Deciding rehearsed."""

from __future__ import annotations

from rating import plain
from rating.columns import FEWEST
from schemas import plain_digests, plain_scan, spans
from streams.rehearsal import rehearse


def test_all_its_events_are_rated_in_columns() -> None:
    """None takes the general way, which would load nothing."""
    assert rehearse() == 2 * FEWEST


def test_afterwards_every_loop_that_deciding_calls_is_compiled() -> None:
    """Those that other loops call are compiled with them."""
    rehearse()
    called = (plain._take, plain_digests._digests, plain_scan._scan, spans._gather, spans._number, spans._renumber)
    assert all(loop.is_made for loop in called)

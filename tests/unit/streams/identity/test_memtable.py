"""The memtable: what it answers as it grows, and when digests collide."""

from __future__ import annotations

import random

from streams.identity.memtable import Memtable
from tests.fakes.digests import booked, laid


def test_it_answers_as_a_dict_that_keeps_the_first_does() -> None:
    """Over every growth, whole batches at a time, with repeats in a batch and between batches."""
    chance = random.Random(20261130)
    known: dict[bytes, bytes] = {}
    table = Memtable()
    asked = [chance.randbytes(16) for _ in range(9_000)]
    for _ in range(40):
        identities = [chance.choice(asked) for _ in range(chance.randrange(400))]
        contents = [chance.randbytes(8) for _ in identities]
        table.add(booked(identities, contents))
        for identity, content in zip(identities, contents, strict=True):
            known.setdefault(identity, content)
        assert len(table) == len(known)
        assert table.find(laid(asked)) == known
    assert table.rows().tobytes() == b"".join(identity + content for identity, content in known.items())


def test_digests_that_share_a_slot_are_told_apart() -> None:
    """All of them hash alike, whatever the size of the table."""
    halves = [number.to_bytes(8, "little") for number in range(1_500)]
    alike = [half + half for half in halves]
    table = Memtable()
    table.add(booked(alike, halves))
    assert table.find(laid(alike)) == dict(zip(alike, halves, strict=True))
    assert table.find(laid([halves[0] + halves[1], halves[1] + halves[0]])) == {}


def test_an_empty_one_finds_nothing() -> None:
    """Also when it is asked for nothing, and given nothing."""
    table = Memtable()
    table.add(booked([], []))
    assert (len(table), table.find(laid([bytes(16)])), table.find(laid([]))) == (0, {}, {})
    table.add(booked([bytes(16)], [b"content!"]))
    assert table.find(laid([])) == {}

"""From raw records to ledger records: chunks that fit, blocks that join, and one record that fails alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from rating.book import CompiledMeter
from rating.decision import Standing
from rating.received import Records
from schemas.ledger import ACCOUNT, USAGE, LedgerRecord, RecordKind, rows
from schemas.ledger_packed import decode_record
from schemas.limits import (
    BLOCK_MAX_AGE_MICROSECONDS,
    BLOCK_MAX_ENTRIES,
    BLOCK_QUIET_ENTRIES,
    EVENT_MAX_BYTES,
    LEDGER_CHUNK_MAX_BYTES,
    LEDGER_RECORD_MAX_BYTES,
)
from streams.deciding import (
    CHUNK_MAX_RECORDS,
    Place,
    block_end,
    block_is_due,
    decide_batch,
    decide_singly,
    elsewhere,
    name,
    received_from,
)
from streams.ledger import LedgerReader
from tests.fakes.partition import (
    MAX_FUTURE,
    NOW,
    MemoryPartition,
    event,
    granted,
    paid,
    refunded,
    reported,
    rows_as_bytes,
    tokens,
)

DAY = 86_400 * 10**6

WIDE = "\U0001f4b0" * 200
"""An id of 200 characters and 800 bytes."""


def many_meters(count: int, *, named: str = "m", model: str = "per_unit", dimensions: str = "[]") -> str:
    """A catalogue that measures one event `count` times."""
    meters = "\n".join(
        f"  - {{id: '{named}{number}', event_type: big.thing, quantity: data.n, aggregation: sum, "
        f"dimensions: {dimensions}}}"
        for number in range(count)
    )
    price = (
        "model: per_unit, unit_amount: '0.001'"
        if model == "per_unit"
        else "model: graduated, tiers: [{up_to: 5, unit_amount: '0.001'}, {up_to: null, unit_amount: '0.002'}]"
    )
    prices = "\n".join(f"  - {{id: '{named}p{number}', meter: '{named}{number}', {price}}}" for number in range(count))
    return f"currency: USD\nmeters:\n{meters}\nprices:\n{prices}\n"


def of_size(value: dict[str, Any], size: int) -> dict[str, Any]:
    """The event, filled up to so many bytes."""
    value["filler"] = ""
    room = size - len(msgspec.json.encode(value))
    return value | {"filler": "x" * room}


WORST: dict[str, tuple[str, list[Any], list[Any]]] = {
    "events of 256 kB": (
        many_meters(1),
        [],
        [of_size(event(n, "big.thing", {"n": 1}), EVENT_MAX_BYTES) for n in range(12)],
    ),
    "ids of 800 bytes, each another customer": (
        many_meters(1),
        [],
        [
            event(
                WIDE[:150] + str(n),
                "big.thing",
                {"n": 1, "session_id": WIDE, "device_id": WIDE, "allocation_id": WIDE, "hold_id": WIDE},
                subject=WIDE[:190] + str(n),
                tenantid=WIDE,
                source=WIDE,
            )
            for n in range(600)
        ],
    ),
    "customers named by user_id alone": (
        many_meters(1),
        [],
        [event(n, "big.thing", {"n": 1, "user_id": WIDE[:190] + str(n)}, subject=None) for n in range(700)],
    ),
    "a hundred meters": (
        many_meters(100),
        [],
        [event(n, "big.thing", {"n": 1}, subject=f"c{n}") for n in range(500)],
    ),
    "a hundred prices that depend on the period": (
        many_meters(100, named="meter-with-a-name-", model="graduated"),
        [],
        [event(n, "big.thing", {"n": 10**6}, subject=f"c{n % 200}") for n in range(400)],
    ),
    "quantities beyond 64 bit": (
        many_meters(50),
        [],
        [event(n, "big.thing", {"n": 999_999_999_999}, subject=f"c{n}") for n in range(500)],
    ),
    "rates with long dimensions": (
        many_meters(20, dimensions="[region, model]"),
        [],
        [event(n, "big.thing", {"n": 1, "region": WIDE, "model": WIDE[:190] + str(n)}) for n in range(200)],
    ),
    "accounts of many credits": (
        many_meters(1),
        [granted(f"g{n}-{w}", "1", credit=f"{n}-{'k' * 150}", subject=f"c{w}") for w in range(10) for n in range(300)],
        [event(n, "big.thing", {"n": 1}, subject=f"c{n % 10}") for n in range(300)],
    ),
    "credits that burn and expire by hundreds": (
        many_meters(1),
        [
            granted(
                f"g{n}-{w}", "0.001", credit=f"{n}-{WIDE[:100]}", subject=f"c{w}", expires_at="2026-11-18T12:00:00Z"
            )
            for w in range(20)
            for n in range(150)
        ],
        [event(n, "big.thing", {"n": 100 * (n % 2)}, subject=f"c{n % 20}") for n in range(60)],
    ),
    "dead letters of nothing": (many_meters(1), [], [b"", b"{"] * 3_000),
}


@pytest.mark.parametrize(("catalog", "accounts", "usage"), WORST.values(), ids=WORST)
def test_no_batch_makes_a_ledger_record_beyond_its_bound(catalog: str, accounts: list[Any], usage: list[Any]) -> None:
    """The worst that may come, in one batch, is cut so that every record fits; none is lost or an internal error."""
    partition = MemoryPartition(catalog)
    for values, topic in ((accounts, ACCOUNT), (usage, USAGE)):
        if values:
            partition.take(
                [partition.received(value, topic, NOW if topic == ACCOUNT else NOW + DAY) for value in values]
            )
    reader = LedgerReader(0, at_start=False)
    for offset, chunk in enumerate(partition.decided):
        assert len(chunk.encoded) <= LEDGER_RECORD_MAX_BYTES
        assert reader.take(offset, chunk.encoded) == chunk.record
        assert chunk.record.entries is not None
        assert "internal_error" not in chunk.record.entries.reason.values()
    assert partition.place.seq == len(accounts) + len(usage)
    assert len(partition.decided) > 1


def test_an_ordinary_batch_is_cut_by_count_and_not_by_size() -> None:
    """Events of 300 bytes fill a chunk: the bound on bytes does not cost the common case its batches."""
    partition = MemoryPartition()
    partition.usage(*(tokens(n, subject=f"customer-{n}") for n in range(2_000)))
    assert len(partition.decided) <= 4
    assert max(chunk.record.count for chunk in partition.decided) <= CHUNK_MAX_RECORDS


@pytest.mark.parametrize("customers", [1, 40, 8_000])
@pytest.mark.parametrize("long", [1, 150])
def test_a_chunk_that_is_full_is_no_larger_than_was_estimated(customers: int, long: int) -> None:
    """Of plain events, of which the names alone are counted, be they of a letter or of very many."""
    partition = MemoryPartition()
    partition.usage(
        *(tokens(n, 2, 3, model="m", subject=f"c{n % customers}" + "x" * long, source="s" * long) for n in range(8_000))
    )
    chunks = [chunk for chunk in partition.decided if chunk.record.count]
    assert max(chunk.record.count for chunk in chunks[:-1]) < CHUNK_MAX_RECORDS
    assert max(len(chunk.encoded) for chunk in chunks) <= LEDGER_CHUNK_MAX_BYTES


def test_one_record_too_large_for_any_chunk_costs_itself_alone() -> None:
    """A batch that cannot be encoded is a fault of deciding, not of the ledger; decided singly it is one dead letter,
    and the account, the identity and the place are as if it had not been."""
    catalog = many_meters(400, named=WIDE[:40], dimensions="[" + ", ".join(f"d{n}" for n in range(8)) + "]")
    huge = event("huge", "big.thing", {"n": 1, **{f"d{n}": WIDE for n in range(8)}})
    partition = MemoryPartition(catalog)
    before = replace(partition.place)
    with pytest.raises(OverflowError, match="ledger record of"):
        partition.take([partition.received(huge)])
    assert (partition.place, partition.rows()) == (before, [])
    partition = MemoryPartition(catalog)
    found = partition.take(
        [partition.received(granted(1, "5")), partition.received(huge), partition.received(granted(2, "5"))],
        singly=True,
    )
    became = [(row["outcome"], row["reason"]) for chunk in found for row in rows(chunk.record)]
    assert became == [("rated", ""), ("dead_letter", "internal_error"), ("rated", "")]
    assert partition.of("c").balance == 10 * 10**9
    assert [chunk.record.first_seq for chunk in found] == [0, 1, 2]


class Poisoned:
    """A meter whose measuring fails for some events, as only a fault of ours could."""

    def __init__(self, meter: CompiledMeter) -> None:
        self._meter = meter

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._meter, attribute)

    def measure(self, measured: Any) -> int:
        if measured.id == "poison":
            raise ZeroDivisionError("a fault of ours")
        return self._meter.measure(measured)


def poisoned() -> MemoryPartition:
    """A partition whose second meter of a chat call cannot measure the event `poison`."""
    partition = MemoryPartition()
    catalogue = partition.book.catalogue("default", 1)
    assert catalogue is not None
    of_type = catalogue._by_type["session.tokens_used"]
    catalogue._by_type["session.tokens_used"] = (of_type[0], Poisoned(of_type[1]), of_type[2])  # type: ignore[assignment]
    return partition


def test_a_poisoned_record_is_found_and_costs_itself_alone() -> None:
    """Decided singly, the culprit is a dead letter `internal_error` with the fault's name; its neighbours are rated."""
    partition = poisoned()
    batch = [partition.received(value) for value in (granted(1), tokens(2), tokens("poison"), tokens(3), tokens(2))]
    with pytest.raises(ZeroDivisionError):
        partition.take(batch)
    partition = poisoned()
    found = partition.take(batch, singly=True)
    became = [(row["outcome"], row["reason"]) for chunk in found for row in rows(chunk.record)]
    assert became == [
        ("rated", ""),
        ("rated", ""),
        ("dead_letter", "internal_error"),
        ("rated", ""),
        ("duplicate", "same_identity"),
    ]
    (letter,) = found[2].messages
    assert "ZeroDivisionError: a fault of ours" in dict(letter.headers)["detail"].decode()
    healthy = MemoryPartition()
    healthy.take([record for record in batch if record is not batch[2]])
    assert partition.told() == healthy.told()


def test_expiries_that_a_failed_record_booked_are_booked_by_the_next() -> None:
    """What a failed decision half changed is put back: its account's credits are there again, and then expire once."""
    late = NOW + DAY
    partition = poisoned()
    partition.account(granted(1, "5", expires_at="2026-11-18T12:00:00Z"))
    batch = [partition.received(tokens(number), USAGE, late) for number in ("poison", "well")]
    failed, well = (next(iter(rows(chunk.record))) for chunk in partition.take(batch, singly=True))
    assert failed["postings"] == []
    assert [posting["kind"] for posting in well["postings"]] == ["expiry", "charge"]


def test_a_fault_in_decoding_costs_its_record_alone_where_it_is_isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that fails by our fault raises for the batch, and isolated is a dead letter of its own."""
    from streams import deciding

    decode = deciding.decode

    def failing(raw: bytes, received_at: int, max_future: int) -> Any:
        if b"poison" in raw:
            raise RecursionError("a fault of ours")
        return decode(raw, received_at, max_future)

    monkeypatch.setattr(deciding, "decode", failing)
    partition = MemoryPartition()
    batch = [partition.received(tokens(number, hold_id="h")) for number in (1, "poison", 2)]
    with pytest.raises(RecursionError):
        partition.take(batch)
    became = [row["reason"] for chunk in partition.take(batch, singly=True) for row in rows(chunk.record)]
    assert became == ["", "internal_error", ""]


def test_what_a_refund_is_about_is_looked_up_with_it() -> None:
    """A batch names its events' identities, their claims, and those that they only ask about."""
    partition = MemoryPartition()
    sent = [partition.received(value) for value in (tokens(1), paid(2), refunded(3), b"")]
    named = name(Records.of(sent), MAX_FUTURE)
    # An identity each; a payment; a refund, its payment and whether that paid an invoice.
    assert len(named.identities) == len(set(rows_as_bytes(named.identities))) + 1 == 1 + 2 + 4
    assert [named.names.key(place) for place in range(4)] == ["7:default:c"] * 3 + [""]
    assert named.customers == {"7:default:c": "c"}


def test_a_record_moves_the_place_on_by_what_it_decided() -> None:
    """seq by entries, each input's position to the offset after its last record, also over holes of markers."""
    partition = MemoryPartition()
    partition.take([partition.received(tokens(1)), partition.received(granted(2), ACCOUNT)])
    holed = msgspec.structs.replace(partition.received(tokens(3)), offset=17)
    (chunk,) = partition.take([holed])
    assert (partition.place.seq, partition.place.usage_next, partition.place.account_next) == (3, 18, 1)
    assert (chunk.record.first_seq, chunk.record.usage_next, chunk.record.account_next) == (2, 18, 1)


def test_blocks_close_by_age_by_size_or_by_a_record_of_their_own() -> None:
    """Whichever comes first; the next block begins where the last ended; an empty one is never due."""
    partition = MemoryPartition()
    clock = [NOW]

    def take(*values: Any) -> LedgerRecord:
        named = name(Records.of([partition.received(value) for value in values]), MAX_FUTURE)
        standing = Standing(partition.accounts, {}, {})
        _, decided = decide_batch(named, standing, partition.book, 1, partition.place, lambda: clock[0])
        assert decided is not None
        return decided.record

    assert not block_is_due(partition.place, NOW + 10**12)
    first = take(tokens(1))
    clock[0] += BLOCK_MAX_AGE_MICROSECONDS
    second = take(tokens(2))
    assert (first.block_seq, first.closes_block, second.block_seq, second.closes_block) == (0, False, 0, True)
    third = take(tokens(3))
    assert (third.block_seq, third.closes_block) == (2, False)
    assert block_is_due(partition.place, clock[0] + BLOCK_MAX_AGE_MICROSECONDS)
    end = block_end(partition.place, 1, clock[0])
    assert (end.kind, end.first_seq, end.count, end.block_seq, end.closes_block) == (
        RecordKind.BLOCK_END,
        3,
        0,
        2,
        True,
    )
    assert not block_is_due(partition.place, NOW + 10**12)
    partition.place.seq += BLOCK_MAX_ENTRIES - 1
    assert take(tokens(4)).closes_block


def test_the_end_of_a_burst_closes_its_block_and_that_of_a_trickle_does_not() -> None:
    """A few rows of a trickle are no insert of their own; the few that a burst leaves over are one in thousands."""
    place = MemoryPartition().place
    place.seq += BLOCK_QUIET_ENTRIES - 1
    assert not block_is_due(place, place.block_opened_at, quiet=True)
    place.seq += 1
    assert block_is_due(place, place.block_opened_at, quiet=True)
    assert not block_is_due(place, place.block_opened_at)
    block_end(place, 1, place.block_opened_at)
    assert not block_is_due(place, place.block_opened_at, quiet=True)
    place.seq += 1
    assert not block_is_due(place, place.block_opened_at, quiet=True)
    place.seq = place.block_seq = place.seq + BLOCK_QUIET_ENTRIES  # full blocks, closed by the records that filled them
    assert not block_is_due(place, place.block_opened_at, quiet=True)
    place.seq += 1
    assert block_is_due(place, place.block_opened_at, quiet=True)


def test_records_below_the_position_are_left_out() -> None:
    """What was decided already is not decided again, wherever a batch begins; times become microseconds."""

    class Kafka(msgspec.Struct):
        offset: int
        timestamp: int = 5
        key: bytes | None = None
        value: bytes | None = b"v"

    found = received_from([Kafka(3), Kafka(7), Kafka(8)], ACCOUNT).since(7)
    assert [(record.input, record.offset, record.received_at) for record in found] == [(1, 7, 5_000), (1, 8, 5_000)]


def test_only_customers_of_other_partitions_are_elsewhere() -> None:
    """Those at home are not named."""
    homes = {"a": 0, "b": 3}
    assert elsewhere({"k-a": "a", "k-b": "b"}, 0, homes.__getitem__) == {"k-b": 3}


def test_a_batch_is_decided_wholly_under_the_position_it_began_with() -> None:
    """A catalogue that comes between two chunks of a batch waits for the next batch."""
    from schemas.catalog import CatalogVersion, parse

    partition = MemoryPartition()
    named = name(Records.of([partition.received(reported(n)) for n in range(CHUNK_MAX_RECORDS + 1)]), MAX_FUTURE)
    standing = Standing(partition.accounts, {}, {})
    chunks = decide_batch(named, standing, partition.book, 1, partition.place, lambda: NOW)
    next(chunks)
    partition.book.add(CatalogVersion(2, None, 0, parse(many_meters(1))))
    later = [chunk.record for chunk in chunks if chunk is not None]
    assert len(later) > 1
    assert {record.catalog_position for record in later} == {1}
    assert {row["outcome"] for record in later for row in rows(record)} == {"rated"}


def test_a_decided_record_reads_back_as_it_was() -> None:
    """Encoded and decoded it is the same record, wide quantities and all."""
    partition = MemoryPartition()
    partition.account(granted(1, "5", credit="größe"))
    partition.usage(reported(2, 12_345_678_901, "seats"), tokens(3), b"")
    for chunk in partition.decided:
        assert decode_record(chunk.encoded) == chunk.record


def test_deciding_singly_is_deciding() -> None:
    """Where nothing fails, one record at a time gives the entries of the batch."""
    values = [granted(1), tokens(2), tokens(2), b"", reported(3)]
    singly, whole = MemoryPartition(), MemoryPartition()
    singly.take([singly.received(value) for value in values], singly=True)
    whole.take([whole.received(value) for value in values])
    assert singly.rows() == whole.rows()
    assert decide_singly is not decide_batch
    assert Place(0, "l", 5, 0, 0, 2, 0).block_entries == 3

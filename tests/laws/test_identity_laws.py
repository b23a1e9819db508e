"""Laws of the identity index: under any history it answers as a dict would that folded the same ledger."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams.identity import IdentityIndex, Limits, Position
from tests.fakes.digests import laid
from tests.fakes.executors import StepExecutor

LEDGER = "ledger"
IDENTITIES = [
    high.to_bytes(8, "big") + low.to_bytes(8, "big") for high in (0, 7, 2**40, 2**63, 2**64 - 1) for low in range(16)
]
"""Few, so that they come again, and many with the same half."""

Booking = tuple[bytes, bytes]
records = st.lists(st.tuples(st.sampled_from(IDENTITIES), st.binary(min_size=8, max_size=8)), max_size=12)


@dataclass
class Process:
    """An index that a process has open, and the executor that its background work waits in."""

    index: IdentityIndex
    executor: StepExecutor

    @property
    def position(self) -> Position:
        assert self.index.position is not None
        return self.index.position


class IdentityIndexIsAFoldOfTheLedger(RuleBasedStateMachine):
    """One owner at a time, any number of stopped processes, one directory.

    The ledger is a list of records of bookings; the model is a dict folded from it, first content kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="identity-law-"))
        self.ledger: list[list[Booking]] = []
        self.stopped: list[Process] = []

    def teardown(self) -> None:
        for process in (self.owner, *self.stopped):
            process.index.close()
        shutil.rmtree(self.directory)

    @initialize(
        memtable=st.integers(1, 12),
        fan_in=st.integers(2, 4),
        slice_rows=st.integers(1, 20),
        grace_seconds=st.sampled_from([0.0, 3_600.0]),
        history=st.lists(records, max_size=5),
    )
    def begin(
        self, memtable: int, fan_in: int, slice_rows: int, grace_seconds: float, history: list[list[Booking]]
    ) -> None:
        self.limits = Limits(memtable, 60, fan_in, slice_rows, 20, grace_seconds)
        self.ledger = history
        self.owner = self.open(loaded=len(history))

    def open(self, loaded: int) -> Process:
        """Open as a worker does: what stands, else load the first `loaded` records; then fold the rest."""
        loaded = min(loaded, len(self.ledger))
        executor = StepExecutor()
        index = IdentityIndex.open(self.directory, LEDGER, limits=self.limits, executor=executor)
        if index.position is None:
            assert index.find(laid(IDENTITIES)) == {}
            chunks = [
                (b"".join(identity for identity, _ in record), b"".join(content for _, content in record))
                for record in self.ledger[:loaded]
            ]
            index.bulk_load(chunks, self.position(loaded))
        process = Process(index, executor)
        self.check(process)
        while process.position.ledger_offset < len(self.ledger):
            self.fold_one(process)
        return process

    def position(self, offset: int) -> Position:
        return Position(offset, sum(map(len, self.ledger[:offset])))

    def fold_one(self, process: Process) -> None:
        offset = process.position.ledger_offset
        record = self.ledger[offset]
        process.index.add(laid([identity + content for identity, content in record], 24), self.position(offset + 1))

    def check(self, process: Process) -> None:
        """The index answers as the ledger up to its position does, to all questions."""
        model: dict[bytes, bytes] = {}
        for record in self.ledger[: process.position.ledger_offset]:
            for identity, content in record:
                model.setdefault(identity, content)
        assert process.position == self.position(process.position.ledger_offset)
        assert process.index.find(laid(IDENTITIES)) == model

    @rule(record=records)
    def book(self, record: list[Booking]) -> None:
        self.ledger.append(record)
        self.fold_one(self.owner)

    @rule()
    def work_in_the_background(self) -> None:
        self.owner.executor.step()

    @rule()
    def flush(self) -> None:
        self.owner.index.flush()

    @rule(loaded=st.integers(0, 100), record=records, committed=st.booleans())
    def crash(self, loaded: int, record: list[Booking], committed: bool) -> None:
        """The process is gone, perhaps just after a commit that its index has not heard of."""
        if committed:
            self.ledger.append(record)
        self.owner = self.open(loaded)

    @rule(loaded=st.integers(0, 100))
    def stop_gracefully(self, loaded: int) -> None:
        self.owner.index.flush()
        self.owner.index.close()
        self.owner = self.open(loaded)

    @rule(loaded=st.integers(0, 100))
    def be_stopped(self, loaded: int) -> None:
        """The process stands still, with its work half done, and another takes over."""
        self.stopped.append(self.owner)
        self.owner = self.open(loaded)

    @precondition(lambda self: self.stopped)
    @rule(which=st.integers(0, 100), adds=st.booleans(), works=st.booleans(), flushes=st.booleans())
    def wake(self, which: int, adds: bool, works: bool, flushes: bool) -> None:
        """A stopped process goes on: it may add what was committed as it stopped, write, merge, sweep and flush."""
        zombie = self.stopped[which % len(self.stopped)]
        if adds and zombie.position.ledger_offset < len(self.ledger):
            self.fold_one(zombie)
        if works:
            zombie.executor.step()
        if flushes:
            zombie.index.flush()
        self.check(zombie)

    @rule(
        loaded=st.integers(0, 100),
        which=st.integers(0, 100),
        how=st.sampled_from(list("RTF")),
        bit=st.integers(0, 9_999),
    )
    def lose_a_run(self, loaded: int, which: int, how: str, bit: int) -> None:
        """Some run is removed, truncated, or has a bit flipped, while nobody has the index open."""
        self.owner.index.close()
        for zombie in self.stopped:
            zombie.index.close()
        self.stopped = []
        # By size, since names differ from one execution to the next, which must be the same for the same draws.
        runs = sorted(self.directory.glob("*.run"), key=lambda path: (path.stat().st_size, path.read_bytes()))
        if runs:
            run = runs[which % len(runs)]
            octets = bytearray(run.read_bytes())
            run.unlink()
            if how == "T":
                run.write_bytes(octets[: len(octets) // 2])
            elif how == "F":
                octets[bit // 8 % len(octets)] ^= 1 << bit % 8
                run.write_bytes(octets)
        self.owner = self.open(loaded)

    @invariant()
    def the_owner_is_right(self) -> None:
        self.check(self.owner)


TestIdentityIndexIsAFoldOfTheLedger = IdentityIndexIsAFoldOfTheLedger.TestCase
TestIdentityIndexIsAFoldOfTheLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

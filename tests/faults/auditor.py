"""The independent auditor: what every record must have come to, by plain dicts and integers.

It shares no code with the pipeline. It is told what each record means (`load.Meaning`) and reads the input topics as
they are, each partition in its order; that alone fixes every outcome, charge and balance.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from tests.faults.load import ACCOUNT, USAGE, Meaning


class Expected(NamedTuple):
    """What became of one record."""

    outcome: str
    reason: str
    customer: str
    charges: tuple[tuple[str, str, int, int], ...] = ()
    """meter, price id, nano-units, nanos"""
    moved: int = 0
    """Nanos into the wallet by what is no charge."""


@dataclass
class _Paid:
    """A payment: nanos that are not refunded yet, and those that it brought and that are not taken back yet."""

    left: int
    credited: int


class Auditor:
    """Give it the meaning of all that is sent, then every record of the input topics in order, by partition."""

    def __init__(self, home_of: Callable[[str], int]) -> None:
        self.expected: dict[tuple[str, int, int], Expected] = {}
        """By topic, partition, offset."""
        self.balances: defaultdict[str, int] = defaultdict(int)
        self.counted: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        """By customer, price id and month: nano-units of prices that depend on the period."""
        self.outcomes: Counter[str] = Counter()
        self.astray = 0
        """Records that lay in another partition than their customer's."""
        self._home_of = home_of
        self._meanings: dict[bytes, Meaning] = {}
        self._booked: dict[tuple[str, tuple[str, str]], str] = {}
        self._claimed: dict[tuple[str, str, str], Any] = {}
        self._paid: dict[tuple[str, str], _Paid] = {}
        """By customer and payment."""

    def told(self, value: bytes, meaning: Meaning) -> None:
        """What a record that is sent, perhaps more than once, means."""
        self._meanings[_digest(value)] = meaning

    def knows(self, value: bytes | None) -> bool:
        """Whether it was told of a record."""
        return _digest(value or b"") in self._meanings

    def take(self, topic: str, partition: int, offset: int, value: bytes | None) -> Expected:
        """Judges a record of an input topic; each partition's must come in order."""
        expected = self._judge(partition, self._meanings[_digest(value or b"")])
        assert (topic, partition, offset) not in self.expected
        self.expected[topic, partition, offset] = expected
        self.outcomes[expected.outcome] += 1
        self.astray += expected.reason == "rerouted"
        self.balances[expected.customer] += expected.moved - sum(charge[3] for charge in expected.charges)
        return expected

    def _judge(self, partition: int, meaning: Meaning) -> Expected:
        customer = meaning.customer
        if meaning.kind == "broken":
            # What names no customer or is found out before its home matters is a dead letter where it lies.
            return Expected("dead_letter", meaning.reason, "")
        if self._home_of(customer) != partition:
            return Expected("ignored", "rerouted", "")
        stands = self._booked.get((customer, meaning.identity))
        if stands is not None:
            if stands == meaning.content:
                return Expected("duplicate", "same_identity", customer)
            return Expected("dead_letter", "conflict", customer)
        expected = getattr(self, f"_{meaning.kind}")(customer, meaning)
        assert isinstance(expected, Expected)
        if expected.outcome in ("rated", "ignored"):
            self._booked[customer, meaning.identity] = meaning.content
        return expected

    def _claim(self, customer: str, kind: str, name: str, content: Any = True) -> Any:
        """None if it is claimed now; else what stood."""
        stood = self._claimed.get((customer, kind, name))
        if stood is None:
            self._claimed[customer, kind, name] = content
        return stood

    def _zero(self, customer: str, meaning: Meaning) -> Expected:
        return Expected("ignored", "zero", customer)

    def _no_effect(self, customer: str, meaning: Meaning) -> Expected:
        return Expected("ignored", "no_effect", customer)

    def _tokens(self, customer: str, meaning: Meaning) -> Expected:
        model, taken, cached, given = meaning.values
        charges = []
        if taken - cached:
            price, tenths = ("in-large", 25_000) if model == "large" else ("in-small", 1_500)
            quantity = taken - cached
            charges.append(("input_tokens", price, quantity * 10**9, _half_even(quantity * tenths, 10)))
        if cached:
            charges.append(("cached_tokens", "cached", cached * 10**9, _half_even(cached * 755, 10)))
        charges.append(self._cumulative(customer, meaning, "output_tokens", "out", given * 10**9, _graduated))
        return Expected("rated", "", customer, tuple(charges))

    def _device(self, customer: str, meaning: Meaning) -> Expected:
        allocation, times, parts = meaning.values
        stood = self._claim(customer, "allocation", allocation, times)
        if stood is not None:
            if stood == times:
                return Expected("duplicate", "same_allocation", customer)
            return Expected("dead_letter", "conflict", customer)
        # Device time counts in the month that it ran in, whenever it is told.
        charges = tuple(
            self._cumulative(customer, meaning._replace(month=month), "core_seconds", "cores", part * 10**9, _package)
            for month, part in parts
        )
        return Expected("rated", "", customer, charges)

    def _chats(self, customer: str, meaning: Meaning) -> Expected:
        (quantity,) = meaning.values
        charge = ("chats", "chat", quantity, _half_even(quantity, 2 * 10**9))
        return Expected("rated", "", customer, (charge,))

    def _seats(self, customer: str, meaning: Meaning) -> Expected:
        return Expected("rated", "", customer, (("seats", "", meaning.values[0], 0),))

    def _grant(self, customer: str, meaning: Meaning) -> Expected:
        credit_id, nanos, _ = meaning.values
        if self._claim(customer, "credit", credit_id) is not None:
            return Expected("ignored", "no_effect", customer)
        return Expected("rated", "", customer, moved=nanos)

    def _payment(self, customer: str, meaning: Meaning) -> Expected:
        payment, order, nanos = meaning.values
        if (customer, payment) in self._paid:
            return Expected("ignored", "no_effect", customer)
        # A second payment for an order came in all the same, and credits nothing.
        credited = nanos if self._claim(customer, "order", order) is None else 0
        self._paid[customer, payment] = _Paid(nanos, credited)
        return Expected("rated", "", customer, moved=credited)

    def _refund(self, customer: str, meaning: Meaning) -> Expected:
        payment, refund, nanos = meaning.values
        if (customer, "refund", refund) in self._claimed:
            return Expected("ignored", "no_effect", customer)
        paid = self._paid.get((customer, payment))
        if paid is None:
            return Expected("dead_letter", "unknown_payment", customer)
        if nanos > paid.left:
            return Expected("dead_letter", "refund_too_large", customer)
        self._claim(customer, "refund", refund)
        taken = paid.credited if nanos == paid.left else min(nanos, paid.credited)
        paid.left -= nanos
        paid.credited -= taken
        return Expected("rated", "", customer, moved=-taken)

    def _user(self, customer: str, meaning: Meaning) -> Expected:
        if self._claim(customer, "user", meaning.values[0]) is not None:
            return Expected("ignored", "no_effect", customer)
        return Expected("rated", "", customer)

    def _cumulative(
        self, customer: str, meaning: Meaning, meter: str, price: str, quantity: int, total: Callable[[int], int]
    ) -> tuple[str, str, int, int]:
        key = (customer, price, meaning.month)
        before = self.counted[key]
        self.counted[key] = after = before + quantity
        return meter, price, quantity, total(after) - total(before)

    def compare(
        self, rows: Mapping[tuple[str, int, int], Mapping[str, Any]], balances: Mapping[str, int | None]
    ) -> list[str]:
        """Every difference between the ledger's rows, the accounts' balances and what must be; a few of each kind."""
        faults: list[str] = []
        missing = [place for place in self.expected if place not in rows]
        surplus = [place for place in rows if place not in self.expected]
        faults += [f"no entry for {place}: {self.expected[place]}" for place in missing[:5]]
        faults += [f"an entry for {place}, which was never sent" for place in surplus[:5]]
        wrong = 0
        for place, expected in self.expected.items():
            row = rows.get(place)
            if row is None:
                continue
            charges = tuple(
                (charge["meter"], charge["price_id"], charge["quantity"], charge["amount"]) for charge in row["charges"]
            )
            moved = sum(posting["amount"] for posting in row["postings"])
            found = (row["outcome"], row["reason"], charges, moved)
            must = (
                expected.outcome,
                expected.reason,
                expected.charges,
                expected.moved - sum(charge[3] for charge in expected.charges),
            )
            if found != must:
                wrong += 1
                if wrong <= 5:
                    faults.append(f"{place}: {found}, must be {must}")
        if wrong > 5 or len(missing) > 5 or len(surplus) > 5:
            faults.append(f"{len(missing)} entries missing, {len(surplus)} too many, {wrong} wrong")
        differing = [
            (customer, balances.get(customer), balance)
            for customer, balance in self.balances.items()
            if customer and (balances.get(customer) or 0) != balance
        ]
        faults += [f"balance of {name}: {found}, must be {must}" for name, found, must in differing[:5]]
        if len(differing) > 5:
            faults.append(f"{len(differing)} balances differ")
        return faults


def _graduated(units: int) -> int:
    """10,000 nanos a token up to 10,000 tokens; beyond, 5,000.5 nanos each and 1.00 once."""
    tokens = units // 10**9
    if tokens <= 10_000:
        return tokens * 10_000
    return _half_even(10_000 * 10_000 * 10 + (tokens - 10_000) * 50_005, 10) + 10**9


def _package(units: int) -> int:
    """0.05 for every 3,600 core seconds begun."""
    seconds = units // 10**9
    return -(-seconds // 3_600) * 50_000_000


def _half_even(numerator: int, denominator: int) -> int:
    whole, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and whole % 2):
        whole += 1
    return whole


def _digest(value: bytes) -> bytes:
    return sha256(value).digest()


__all__ = ["ACCOUNT", "USAGE", "Auditor", "Expected"]

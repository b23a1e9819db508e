"""Laws of what a period comes to: whatever the order, the batches and the restarts, the total is one of the usage.

Each aggregation is compared with its own definition in plain integers.
"""

from __future__ import annotations

import json
from collections import defaultdict
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.partition import MemoryPartition, event

CATALOG = """
currency: USD
meters:
  - {id: least, event_type: made, quantity: data.q, aggregation: min}
  - {id: most, event_type: made, quantity: data.q, aggregation: max}
  - {id: mean, event_type: made, quantity: data.q, aggregation: avg}
  - {id: last, event_type: made, quantity: data.q, aggregation: latest}
  - {id: heads, event_type: made, quantity: data.who, aggregation: unique}
  - {id: taken, event_type: made, quantity: data.q, aggregation: sum}
  - {id: made, event_type: made, aggregation: count}
prices:
  - {id: p-least, meter: least, model: per_unit, unit_amount: "0.0000000015"}
  - {id: p-most, meter: most, model: graduated,
     tiers: [{up_to: 3, unit_amount: "0.3333333333"}, {up_to: null, unit_amount: "0.1", flat_amount: "1"}]}
  - {id: p-mean, meter: mean, model: per_unit, unit_amount: "0.3333333335"}
  - {id: p-last, meter: last, model: volume,
     tiers: [{up_to: 2, unit_amount: "1"}, {up_to: null, unit_amount: "0.5"}]}
  - {id: p-heads, meter: heads, model: package, package_size: 2, amount: "3"}
  - {id: p-taken, meter: taken, model: per_unit, unit_amount: "0.1"}
  - {id: p-made, meter: made, model: stairstep, tiers: [{up_to: 2, amount: "1"}, {up_to: null, amount: "9"}]}
"""

made = st.tuples(
    st.integers(0, 20 * 10**9),
    st.sampled_from(["a", "b", "c", 1, 2]),
    st.sampled_from(["2026-11-01T00:00:00Z", "2026-11-03T10:00:00Z", "2026-10-05T00:00:00Z", "2026-11-17T00:00:00Z"]),
    st.sampled_from(["c", "d"]),
)
Made = tuple[int, Any, str, str]


def record(number: int, one: Made) -> bytes:
    quantity, who, time, customer = one
    sent = event(number, "made", {"q": "@", "who": who}, time=time, subject=customer)
    return json.dumps(sent).replace('"@"', f"{quantity // 10**9}.{quantity % 10**9:09d}").encode()


def totals(
    usage: list[tuple[int, Made]], cuts: list[int], *, restarts: bool = False, singly: bool = False
) -> tuple[dict[Any, int], dict[Any, int], MemoryPartition]:
    """Quantities and amounts by customer, month and meter."""
    partition = MemoryPartition(CATALOG)
    ends = sorted({cut % (len(usage) + 1) for cut in cuts} | {len(usage)})
    start = 0
    for end in ends:
        partition.take([partition.received(record(*one)) for one in usage[start:end]], singly=singly)
        if restarts:
            partition.restart()
        start = end
    quantities: defaultdict[Any, int] = defaultdict(int)
    amounts: defaultdict[Any, int] = defaultdict(int)
    times = {str(number): one[2][:7] for number, one in usage}
    for row in partition.rows():
        assert row["outcome"] == "rated", row
        for charge in row["charges"]:
            key = row["customer"], times[row["event_id"]], charge["meter"]
            quantities[key] += charge["quantity"]
            amounts[key] += charge["amount"]
    return {k: v for k, v in quantities.items() if v}, {k: v for k, v in amounts.items() if v}, partition


def meant(usage: list[tuple[int, Made]]) -> dict[Any, int]:
    """The quantity of each customer, month and meter, by definition."""
    found: dict[Any, int] = {}
    groups: defaultdict[Any, list[Made]] = defaultdict(list)
    for _, one in usage:
        groups[one[3], one[2][:7]].append(one)
    for (customer, month), listed in groups.items():
        quantities = [one[0] for one in listed]
        newest = max(one[2] for one in listed)
        values = {
            "least": min(quantities),
            "most": max(quantities),
            "mean": round(Fraction(sum(quantities), len(quantities))),
            "last": [one[0] for one in listed if one[2] == newest][-1],
            "heads": len({str(one[1]) for one in listed}) * 10**9,
            "taken": sum(quantities),
            "made": len(listed) * 10**9,
        }
        found.update({(customer, month, meter): value for meter, value in values.items() if value})
    return found


usages = st.lists(made, min_size=1, max_size=12)
cuts = st.lists(st.integers(0, 12), max_size=5)


@settings(max_examples=60)
@given(usages, cuts)
def test_a_period_has_the_quantity_of_its_aggregation_through_batches_and_restarts(
    usage: list[Made], cuts: list[int]
) -> None:
    """The rows of a period sum to minimum, maximum, average, latest, number of values, sum and count."""
    numbered = list(enumerate(usage))
    for restarts, singly in ((False, False), (True, False), (True, True)):
        assert totals(numbered, cuts, restarts=restarts, singly=singly)[0] == meant(numbered)


@settings(max_examples=60)
@given(usages, cuts, st.randoms())
def test_a_periods_amount_depends_on_its_usage_and_not_on_its_order(
    usage: list[Made], cuts: list[int], chance: Any
) -> None:
    """Late and out-of-order events end in the same charges, the latest of one time alone goes by the ledger."""
    numbered = list(enumerate(usage))
    shuffled = list(numbered)
    chance.shuffle(shuffled)
    before, after = totals(numbered, []), totals(shuffled, cuts, restarts=True)
    tied = {key for key in meant(numbered) if key[2] == "last"}
    for some, others in zip(before[:2], after[:2], strict=True):
        assert {k: v for k, v in some.items() if k not in tied} == {k: v for k, v in others.items() if k not in tied}


@settings(max_examples=40)
@given(usages, cuts)
def test_how_usage_is_cut_into_batches_changes_no_entry(usage: list[Made], cuts: list[int]) -> None:
    """Entries, fingerprints and accounts are those of one batch."""
    numbered = list(enumerate(usage))
    whole = totals(numbered, [])[2]
    for restarts, singly in ((False, False), (True, False), (False, True)):
        other = totals(numbered, cuts, restarts=restarts, singly=singly)[2]
        assert other.rows() == whole.rows()
        assert other.told() == whole.told()
        assert other.booked == whole.booked

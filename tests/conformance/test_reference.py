"""Every model with everything around it, against the definition written down once more, by who knows no code of ours.

Small numbers that meet each other: bounds, packages and allowances are hit exactly, or missed by the last place.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from rating.estimate import estimate
from rating.model import exact_text
from rating.rate import compile_price
from schemas.catalog import price_from_document
from schemas.catalog_shapes import Priced
from schemas.money import NANOS
from tests.conformance.reference import comes_to

EXAMPLES = 500
MODELS = [get_args(shape.model_fields["model"].annotation)[0] for shape in Priced.__subclasses__()]
HUNDREDTHS = st.integers(0, 4_000).map(lambda n: f"{n // 100}.{n % 100:02d}")
NEAR = st.sampled_from(["0.999999999", "1", "1.000000001", "9.999999999", "10", "10.000000001", "20", "0.5"])
QUANTITY = st.one_of(NEAR, st.integers(0, 40).map(str), HUNDREDTHS)
SIZE = st.one_of(st.integers(1, 12), st.sampled_from(["0.5", "2.5", "3", "10", "0.000000001", "9.999999999"]))
MONEY = st.one_of(
    st.sampled_from(["0", "0.000000000000003", "0.0000000005", "1", "0.1", "123.456789012345678901"]), HUNDREDTHS
)
PERCENT = st.one_of(st.integers(0, 150), st.sampled_from(["0.1", "2.9", "33.333333333", "100"]))
DIVISOR = st.one_of(st.integers(1, 9), st.sampled_from([1_000_000, "0.3"]))


@st.composite
def tiers(draw: st.DrawFn, model: str) -> list[dict[str, Any]]:
    """As a catalogue may have them: ascending ends, the last without one."""
    ends = sorted(draw(st.sets(SIZE.map(str).map(Fraction), max_size=4)))
    made = []
    for end in [*map(exact_text, ends), None]:
        if model == "stairstep":
            made.append({"up_to": end, "amount": draw(MONEY)})
            continue
        rate: dict[str, Any]
        rate = {"rate_percent": draw(PERCENT)} if model == "graduated_percentage" else {"unit_amount": draw(MONEY)}
        flat = draw(st.one_of(st.none(), MONEY))
        made.append({"up_to": end, **rate, "flat_amount": flat})
    return made


@st.composite
def prices(draw: st.DrawFn) -> dict[str, Any]:
    model = draw(st.sampled_from(MODELS))
    price: dict[str, Any] = {"model": model}
    match model:
        case "flat":
            price["amount"] = draw(MONEY)
        case "per_unit":
            price["unit_amount"] = draw(MONEY)
        case "package":
            price |= {"package_size": draw(SIZE), "amount": draw(MONEY)}
            price |= draw(st.fixed_dictionaries({}, optional={"rounding": st.sampled_from(["up", "down"])}))
        case "dynamic":
            price |= draw(st.fixed_dictionaries({}, optional={"multiplier": PERCENT}))
        case "percentage":
            least, most = sorted((draw(MONEY), draw(MONEY)), key=Fraction)
            optional = {
                "fixed_per_event": MONEY, "free_events": st.integers(0, 4), "free_amount": QUANTITY,
                "min_per_event": st.just(least), "max_per_event": st.just(most),
            }  # fmt: skip
            price |= {"rate_percent": draw(PERCENT), **draw(st.fixed_dictionaries({}, optional=optional))}
        case _:
            price["tiers"] = draw(tiers(model))
            price |= draw(st.fixed_dictionaries({}, optional={"charge_first_flat_at_zero": st.booleans()}))
    least, most = sorted((draw(MONEY), draw(MONEY)), key=Fraction)
    around = {
        "included_quantity": QUANTITY, "discount_percent": st.sampled_from([0, 10, "33.3", 100]),
        "minimum_amount": st.just(least), "maximum_amount": st.just(most), "unit_divisor": DIVISOR,
    }  # fmt: skip
    return price | draw(st.fixed_dictionaries({}, optional=around))


@settings(max_examples=EXAMPLES)
@given(prices(), st.lists(QUANTITY, max_size=6), st.data())
def test_an_estimate_is_what_the_definition_says(
    price: dict[str, Any], quantities: list[str], data: st.DataObject
) -> None:
    """Exactly; several events of one period, and a lone quantity. Where its order does not matter, usage may also be
    taken back."""
    if price["model"] != "percentage" and quantities:
        back = data.draw(st.sampled_from(["0", quantities[0], quantities[-1]]))
        quantities = [*quantities, exact_text(-Fraction(back))]
    usage = [Fraction(quantity) for quantity in quantities]
    exact = comes_to(price, usage)
    asked = [{"quantity": quantity} for quantity in quantities]
    assert estimate({"price": price, "quantities": asked}).amount == exact * NANOS
    if len(quantities) == 1:
        assert estimate({"price": price, "quantity": quantities[0]}).amount == exact * NANOS
    _check_charges(price, usage)


def _check_charges(price: dict[str, Any], usage: list[Fraction]) -> None:
    """What the pipeline books event by event: the growth of the rounded total, or, where that does not lean on the
    period so far, the event's own amount rounded once. A minimum is in no charge: the close books what is missing."""
    unbounded = {name: value for name, value in price.items() if name != "minimum_amount"}
    ready = compile_price(price_from_document({"amount_field": "data.amount", **price} if _dynamic(price) else price))
    before: tuple[int, ...] | None = None
    booked = 0
    for number, quantity in enumerate(usage, start=1):
        charge, after = ready.advance(before, int(quantity * NANOS))
        if ready.counters:
            so_far = round(comes_to(unbounded, usage[: number - 1]) * NANOS) if number > 1 else 0
            must = round(comes_to(unbounded, usage[:number]) * NANOS) - so_far
        else:
            must = round(_of_one(unbounded, quantity) * NANOS)
        assert charge == must, (price, usage[:number])
        booked += charge
        before = after if ready.counters else (sum(int(each * NANOS) for each in usage[:number]),)
    due = ready.due_at_close(booked if usage else None)
    if ready.counters or not usage:
        assert booked + due == round(comes_to(price, usage) * NANOS), price


def _of_one(price: dict[str, Any], quantity: Fraction) -> Fraction:
    """A quantity's amount at a price that is a straight line, also of what is taken back."""
    return comes_to(price, [quantity]) if quantity >= 0 else -comes_to(price, [-quantity])


def _dynamic(price: dict[str, Any]) -> bool:
    return bool(price["model"] == "dynamic")

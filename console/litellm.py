"""The community's price list of language models, as a catalogue: meters of tokens, and a price for every model.

The list is litellm's `model_prices_and_context_window.json`: a mapping from a model's name to what it costs in dollars.
Taken are the prices of tokens: input, output, reads and writes of a cache, reasoning; each also for a context above a
bound, and for the tiers of service `batch`, `flex` and `priority`. All else (images, audio, seconds, searches, ...) is
left out and told, with the reason.

The meters count each token once, as litellm does: `input_tokens` of an event are all tokens of the prompt, those read
from or written to a cache among them; `output_tokens` all that came back, reasoning among them. A model without a
price for its cache or reasoning pays for those as for other input or output. A price above a bound holds for the whole
of a call: it matches a dimension that the meters' `bounds` make, `above_200k`. A tier of service is the field
`service_tier` of an event's data.

The order of the list does not matter: models stand by name, so the same list makes the same catalogue.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec

from schemas.errors import InvalidInput
from schemas.limits import ID_MAX_CHARACTERS
from schemas.usage_types import TOKENS_USED

CONTEXT: Final = "data.input_tokens"
"""What a bound of the context is about: all tokens of the prompt."""

INCLUSIVE_PROVIDERS: Final = frozenset(("xai",))
"""Whose bounds belong to the dearer side; all others' prices hold above theirs."""

SERVICE_TIERS: Final = {"batches": "batch", "flex": "flex", "priority": "priority"}
"""Suffix of a field, and what `service_tier` reads in an event."""

MAX_PLACES: Final = 30
"""Decimals of a price in a catalogue."""

MAX_LIST_BYTES: Final = 64 * 1024 * 1024


class Kind(NamedTuple):
    """One kind of token."""

    name: str
    meter: str
    quantity: str
    field: str
    instead: str | None
    """The kind whose price it has where it has none of its own."""


KINDS: Final = (
    Kind("input", "input_tokens", "data.input_tokens - data.cached_input_tokens - data.cache_write_tokens",
         "input_cost_per_token", None),
    Kind("cache-read", "cached_input_tokens", "data.cached_input_tokens", "cache_read_input_token_cost", "input"),
    Kind("cache-write", "cache_write_tokens", "data.cache_write_tokens", "cache_creation_input_token_cost", "input"),
    Kind("output", "output_tokens", "data.output_tokens - data.reasoning_tokens", "output_cost_per_token", None),
    Kind("reasoning", "reasoning_tokens", "data.reasoning_tokens", "output_cost_per_reasoning_token", "output"),
)  # fmt: skip

_ALIASES: Final = {"input_cost_per_token_cache_hit": "cache_read_input_token_cost"}
_BY_FIELD: Final = {kind.field: kind for kind in KINDS}
_FIELD: Final = re.compile(rf"({'|'.join(_BY_FIELD)})(?:_above_([0-9]{{1,7}})k_tokens)?(?:_([a-z]+))?")
_PRICING: Final = re.compile(r"cost|pric")

_COUNTED_ELSEWISE: Final = f"prices what {TOKENS_USED} does not count"
_REASONS: Final = (
    (re.compile(r"above_[0-9]+hr"), "prices by how long a cache lives, which events do not say"),
    (re.compile(r"off_peak"), "prices by the hour of the day"),
    (re.compile(r"_(ultrafast|balanced|decisions)$"), "a tier of service that is not taken"),
)


class Skipped(NamedTuple):
    """One thing of the list that is not in the catalogue."""

    model: str
    field: str
    """Empty: the whole model."""
    reason: str


@dataclass(slots=True)
class Imported:
    """What became of a list."""

    catalog: dict[str, Any]
    """As a catalogue's document."""
    models: int = 0
    """How many have at least one price."""
    skipped: list[Skipped] = field(default_factory=list)

    def reasons(self) -> list[tuple[str, str, int]]:
        """Field, reason and how many models, the most frequent first."""
        counted = Counter((one.field, one.reason) for one in self.skipped)
        return [(name, reason, count) for (name, reason), count in sorted(counted.items(), key=lambda x: (-x[1], x[0]))]


Place = tuple[int, str]
"""A bound of the context in tokens (0: none) and a tier of service (empty: the standard one)."""

Rates = dict[str, dict[Place, Decimal]]
"""By kind and place."""


def read_list(raw: bytes) -> dict[str, Any]:
    """The list from its text, numbers exact. Errors: InvalidInput."""
    if len(raw) > MAX_LIST_BYTES:
        raise InvalidInput("too_large", f"the list has {len(raw)} bytes, more than {MAX_LIST_BYTES}")
    try:
        read = msgspec.json.Decoder(float_hook=Decimal).decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput("not_json", f"the list is not JSON: {error}") from None
    if not isinstance(read, dict):
        raise InvalidInput("wrong_type", "the list is no mapping from models to their prices")
    return read


def convert(listed: Mapping[str, Any], providers: Iterable[str] = ()) -> Imported:
    """The catalogue of a list; of these providers alone, if any are named."""
    wanted = frozenset(providers)
    imported = Imported({})
    prices: list[dict[str, Any]] = []
    bounds: dict[str, int] = {}
    for model in sorted(listed):
        entry = listed[model]
        if wanted and (not isinstance(entry, dict) or entry.get("litellm_provider") not in wanted):
            continue
        made = list(_prices_of(model, entry, imported.skipped, bounds))
        imported.models += bool(made)
        prices += made
    imported.catalog = {"currency": "USD", "meters": [_meter(kind, bounds) for kind in KINDS], "prices": prices}
    return imported


def lines(catalog: Mapping[str, Any]) -> Iterator[str]:
    """A catalogue as YAML with one part a line."""
    yield f"currency: {catalog['currency']}"
    for kind in ("meters", "prices"):
        yield f"{kind}:" if catalog[kind] else f"{kind}: []"
        for part in catalog[kind]:
            yield "  - " + msgspec.json.format(msgspec.json.encode(part), indent=0).decode()


def _meter(kind: Kind, bounds: Mapping[str, int]) -> dict[str, Any]:
    meter: dict[str, Any] = {
        "id": kind.meter,
        "event_type": TOKENS_USED,
        "quantity": kind.quantity,
        "dimensions": ["model", "service_tier"],
    }
    if bounds:
        ordered = sorted(bounds.items(), key=lambda item: (item[1], item[0]))
        meter["bounds"] = {name: {"quantity": CONTEXT, "above": above} for name, above in ordered}
    return meter


def _prices_of(model: str, entry: Any, skipped: list[Skipped], bounds: dict[str, int]) -> Iterator[dict[str, Any]]:
    """The prices of one model; what is left out is added to `skipped`, bounds that they match to `bounds`."""
    if model == "sample_spec":
        skipped.append(Skipped(model, "", "explains the fields and is no model"))
        return
    if not isinstance(entry, dict):
        skipped.append(Skipped(model, "", "is no mapping"))
        return
    rates = _rates(model, entry, skipped)
    if "input" not in rates and "output" not in rates:
        skipped.append(Skipped(model, "", "has no price for tokens"))
        return
    inclusive = entry.get("litellm_provider") in INCLUSIVE_PROVIDERS
    thresholds = sorted({bound for of_kind in rates.values() for bound, _ in of_kind if bound})
    names = {bound: f"{'from' if inclusive else 'above'}_{bound // 1000}k" for bound in thresholds}
    for kind in KINDS:
        for (bound, tier), amount in _grid(rates, kind, thresholds):
            match = {"model": model} | {names[at]: "true" for at in thresholds if at <= bound}
            bounds.update({names[at]: at - inclusive for at in thresholds if at <= bound})
            parts = [model, kind.name, *([names[bound]] if bound else []), *([tier] if tier else [])]
            price_id = ":".join(parts)
            if len(price_id) > ID_MAX_CHARACTERS or len(model) > ID_MAX_CHARACTERS:
                skipped.append(Skipped(model, kind.field, f"its name is longer than {ID_MAX_CHARACTERS} characters"))
                continue
            yield {
                "id": price_id,
                "meter": kind.meter,
                "match": match | ({"service_tier": tier} if tier else {}),
                "model": "per_unit",
                "unit_amount": _plain(amount),
            }


def _rates(model: str, entry: Mapping[str, Any], skipped: list[Skipped]) -> Rates:
    """What the list says of a model's tokens."""
    rates: Rates = {}
    for name in sorted(entry):
        value = entry[name]
        match = _FIELD.fullmatch(_ALIASES.get(name, name))
        if name == "tiered_pricing" or not _PRICING.search(name) or value is None:
            continue
        if match is None or (match[3] is not None and match[3] not in SERVICE_TIERS):
            skipped.append(Skipped(model, name, _reason(name)))
        elif (amount := _amount(value)) is None:
            skipped.append(Skipped(model, name, "is no price: not a number from 0 with at most 30 decimals"))
        else:
            place = int(match[2] or 0) * 1000, SERVICE_TIERS.get(match[3] or "", "")
            of_kind = rates.setdefault(_BY_FIELD[match[1]].name, {})
            if name not in _ALIASES or place not in of_kind:
                of_kind[place] = amount
    if isinstance(entry.get("tiered_pricing"), list):
        _take_table(model, entry["tiered_pricing"], rates, skipped)
    return rates


def _take_table(model: str, table: list[Any], rates: Rates, skipped: list[Skipped]) -> None:
    """Prices by ranges of the context, which go before the others. What a range leaves out costs what its input or
    output does."""
    begun = sorted((start, tier) for tier in table if (start := _range_start(tier)) is not None)
    if len(begun) != len(table) or not begun or begun[0][0] != 0:
        skipped.append(Skipped(model, "tiered_pricing", "its ranges are not of tokens from 0 on"))
        return
    for start, tier in begun:
        for kind in KINDS:
            value = tier.get(kind.field)
            if value is None and kind.instead is not None:
                value = tier.get(next(other.field for other in KINDS if other.name == kind.instead))
            amount = _amount(value)
            if amount is not None:
                rates.setdefault(kind.name, {})[start, ""] = amount


def _range_start(tier: Any) -> int | None:
    bounds = tier.get("range") if isinstance(tier, dict) else None
    if not isinstance(bounds, list) or len(bounds) != 2:
        return None
    start = bounds[0]
    if isinstance(start, bool) or not isinstance(start, int | Decimal) or start < 0 or start % 1000:
        return None
    return int(start)


def _grid(rates: Rates, kind: Kind, thresholds: list[int]) -> Iterator[tuple[Place, Decimal]]:
    """The places at which a kind of token has a price of its own. Where bounds and tiers both part it, each pair of
    them has one: else an event that lies above the bound in that tier could not choose."""
    standard = [_rate(rates, kind.name, thresholds, bound, "") for bound in (0, *thresholds)]
    if standard[0] is None:
        return
    tiers = sorted({tier for of_kind in rates.values() for _, tier in of_kind if tier})
    by_tier = {tier: [_rate(rates, kind.name, thresholds, bound, tier) for bound in (0, *thresholds)] for tier in tiers}
    apart = {"": standard, **{tier: column for tier, column in by_tier.items() if column != standard}}
    for at, bound in enumerate((0, *thresholds)):
        if at and all(column[at] == column[at - 1] for column in apart.values()):
            continue
        for tier, column in apart.items():
            amount = column[at]
            if amount is not None:
                yield (bound, tier), amount


def _rate(rates: Rates, name: str, thresholds: list[int], bound: int, tier: str) -> Decimal | None:
    """What a kind of token costs at a place: by the nearest bound that it has a price for, in the tier before the
    standard; where it has none at all, what it is priced like."""
    of_kind = rates.get(name, {})
    found = of_kind.get((0, tier), of_kind.get((0, "")))
    flat_tier = tier == "batch" and any(place[1] == tier for place in of_kind)  # its bounds are its own alone
    for at in thresholds:
        if at <= bound:
            found = of_kind.get((at, tier), found if flat_tier else of_kind.get((at, ""), found))
    if found is None:
        instead = next(kind.instead for kind in KINDS if kind.name == name)
        return _rate(rates, instead, thresholds, bound, tier) if instead is not None else None
    return found


def _amount(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    try:
        amount = Decimal(value)
    except ArithmeticError:
        return None
    if not amount.is_finite() or (amount.is_signed() and amount) or abs(amount.adjusted()) > MAX_PLACES:
        return None
    exponent = amount.normalize().as_tuple().exponent
    return amount if isinstance(exponent, int) and -exponent <= MAX_PLACES else None


def _plain(amount: Decimal) -> str:
    text = format(amount, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def _reason(name: str) -> str:
    return next((reason for pattern, reason in _REASONS if pattern.search(name)), _COUNTED_ELSEWISE)

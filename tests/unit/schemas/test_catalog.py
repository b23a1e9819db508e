"""The catalogue: read, checksummed, encoded as a version and read again."""

from __future__ import annotations

import hashlib
import json
import zlib
from base64 import b64encode
from dataclasses import replace
from decimal import Decimal
from random import Random

import orjson
import pytest

from schemas.catalog import Catalog, CatalogRefused, decode, encode, from_document, parse, price_from_document
from schemas.catalog_shapes import PerUnit
from schemas.errors import InvalidInput, InvariantBroken
from schemas.limits import CATALOG_MAX_BYTES
from schemas.period import parse_time

WHOLE = """
currency: USD
effective_from: 2025-12-01T00:00:00+01:00
meters:
  - id: input_tokens
    event_type: session.tokens_used
    quantity: data.input_tokens - data.cached_input_tokens   # numbers, fields, + - * / ( ), nothing else
    aggregation: sum                       # sum | count | min | max | avg | latest | unique
    dimensions: [model]
    bounds: {long_context: {quantity: data.input_tokens, above: 200000}}
  - {id: output_tokens, event_type: session.tokens_used, quantity: data.output_tokens, dimensions: [model]}
  - id: device_core_seconds
    event_type: device.released
    quantity: data.duration_seconds * data.cpu_cores
  - id: ai_chat
    event_type: usage.reported             # counts data.quantity of events that name it
  - {id: people, event_type: session.tokens_used, quantity: data.user_id, aggregation: unique}
  - {id: peak, event_type: session.tokens_used, quantity: data.input_tokens, aggregation: max}
prices:
  - id: gpt-4o-input
    meter: input_tokens
    match: {model: gpt-4o}                 # the most specific match wins
    model: per_unit
    unit_amount: "0.0000025"
    effective_from: 2026-01-01T00:00:00Z
plans:
  - id: pro
    name: Pro
    interval: month                        # month | year
    amount: "20.00"                        # recurring fee, in advance
    trial_days: 14
    prices: [gpt-4o-input]
    features: {ai_chat: 10000, agent_seats: 5, sso: true}     # short for hard quotas a billing period; booleans
    credits:                               # granted again each month, also on yearly plans
      - {amount: "20.00", every: month, expires_after: P1M, rollover_max: "5.00", priority: 10}
    quotas:
      - {meter: input_tokens, limit: 1000000, window: month, mode: hard, thresholds: [50, 80, 100]}
      - {meter: output_tokens, limit: 50000, window: "session:5h", per: user}
      - {id: fair, meter: ai_chat, limit: 500, window: week, grace_percent: 10, rollover_max: "50.5"}
      - {spend: "5.00", window: day, per: model}
      - {spend: "50.00", window: day, mode: soft}
      - {meter: devices_open, limit: 3, window: "sliding:5h"}
    commitment: {amount: "1000.00", overage_factor: "1.5", true_up: true}
"""
MINIMAL = {"currency": "EUR", "meters": [{"id": "calls", "event_type": "api.called", "aggregation": "count"}]}


def test_a_catalogue_with_all_it_may_have_is_taken() -> None:
    """Also what later parts of the system act on: plans with features, credits, quotas, commitment."""
    catalog = parse(WHOLE)
    (price,) = catalog.prices
    assert isinstance(price, PerUnit)
    assert (price.match, price.unit_amount) == ({"model": "gpt-4o"}, Decimal("0.0000025"))
    assert price.effective_from == parse_time("2026-01-01T00:00:00Z")
    (plan,) = catalog.plans
    assert plan.features == {"ai_chat": 10000, "agent_seats": 5, "sso": True}
    assert [quota.quota_id for quota in plan.quotas] == [
        "input_tokens:month:customer",
        "output_tokens:session:5h:user",
        "fair",
        "spend:day:model",
        "spend:day:customer:soft",
        "devices_open:sliding:5h:customer",
    ]
    assert (plan.months, plan.trial_days) == (1, 14)
    assert catalog.effective_from == parse_time("2025-11-30T23:00:00Z")
    assert catalog.meters[0].bounds["long_context"].above == 200_000


def test_the_canonical_document_is_the_same_catalogue() -> None:
    """What `show` prints can be applied again, as YAML and as JSON."""
    catalog = parse(WHOLE)
    assert from_document(catalog.document) == catalog
    again = parse(json.dumps(catalog.document))
    assert again == catalog
    assert again.checksum == catalog.checksum


def test_the_checksum_is_of_what_is_said_not_of_how() -> None:
    """Comments, white space, the order of keys and defaults that are written out do not change it; a value does."""
    checksum = parse(WHOLE).checksum
    assert len(checksum) == 64
    assert parse(WHOLE.replace("    aggregation: sum ", "").replace("# month | year", "")).checksum == checksum
    assert parse(WHOLE.replace("mode: hard, ", "")).checksum == checksum
    assert parse(WHOLE.replace("2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00")).checksum == checksum
    reversed_keys = json.dumps({key: parse(WHOLE).document[key] for key in reversed(parse(WHOLE).document)})
    assert parse(reversed_keys).checksum == checksum
    assert parse(WHOLE.replace("0.0000025", "0.0000026")).checksum != checksum


def test_money_is_text_and_counts_may_be_whole_numbers() -> None:
    """Both are exact, however long."""
    price = {"id": "p", "meter": "calls", "model": "per_unit", "unit_amount": "0.000000000000000000000000000001"}
    catalog = from_document({**MINIMAL, "prices": [{**price, "included_quantity": 7, "unit_divisor": "1000"}]})
    (read,) = catalog.prices
    assert isinstance(read, PerUnit)
    assert (read.unit_amount, read.included_quantity, read.unit_divisor) == (Decimal("1e-30"), 7, 1000)
    assert catalog.document["prices"][0]["unit_amount"] == price["unit_amount"]


def test_a_match_reads_as_events_are_read() -> None:
    """A number or boolean of the catalogue is the text that an event's number or boolean becomes."""
    meter = {**MINIMAL["meters"][0], "dimensions": ["cores", "spot"]}  # type: ignore[dict-item]
    price = {"id": "p", "meter": "calls", "model": "flat", "amount": "1", "match": {"cores": 12, "spot": True}}
    catalog = from_document({**MINIMAL, "meters": [meter], "prices": [price]})
    assert catalog.prices[0].match == {"cores": "12", "spot": "true"}


def test_a_version_is_its_offset_and_reads_back_as_it_was_applied() -> None:
    """Tenant, time, catalogue and checksum survive the topic."""
    catalog = parse(WHOLE)
    version = decode(encode(catalog, "acme", 1_700_000_000_000_000), offset=4)
    assert (version.version, version.tenant, version.applied_at) == (5, "acme", 1_700_000_000_000_000)
    assert version.catalog == catalog
    assert version.catalog.checksum == catalog.checksum
    assert decode(encode(catalog, None, 0), offset=0).tenant is None


def test_what_was_applied_is_not_judged_again() -> None:
    """A version that a later rule would refuse still stands; here one that a price without a meter makes faulty."""
    catalog = parse(WHOLE)
    faulty = Catalog(catalog.currency, catalog.meters[1:], catalog.prices, catalog.plans)
    with pytest.raises(CatalogRefused):
        from_document(faulty.document)
    assert decode(encode(faulty, None, 0), offset=0).catalog == faulty


def test_a_record_that_is_no_version_is_refused() -> None:
    """Foreign bytes are an input fault; a later format or another catalogue than was applied stops the reader."""
    for raw in (b"", b"{}", b"\xff", b'{"format": 1}', b"[1]"):
        with pytest.raises(InvalidInput):
            decode(raw, offset=0)
    record = orjson.loads(encode(parse(WHOLE), None, 0))
    for damage in ({"format": 3}, {"checksum": "0" * 64}, {"catalog": {**record["catalog"], "currency": "EUR"}}):
        with pytest.raises(InvariantBroken):
            decode(orjson.dumps({**record, **damage}), offset=0)


def large(count: int, name: str = "model {at}") -> Catalog:
    prices = [
        {
            "id": f"p{at}",
            "meter": "calls",
            "match": {"model": name.format(at=at)},
            "model": "per_unit",
            "unit_amount": f"0.{at:07}1",
        }
        for at in range(count)
    ]
    return from_document(
        {**MINIMAL, "meters": [{**MINIMAL["meters"][0], "dimensions": ["model"]}], "prices": prices}  # type: ignore[dict-item]
    )


def test_a_large_catalogue_travels_compressed() -> None:
    """Twenty thousand prices fit one record, and read back as they were applied; damage to them stops the reader."""
    catalog = large(20_000)
    record = encode(catalog, "acme", 7)
    assert len(orjson.dumps(catalog.document)) > 1_500_000
    assert len(record) < 400_000
    version = decode(record, offset=0)
    assert (version.tenant, version.catalog) == ("acme", catalog)
    fields = orjson.loads(record)
    with pytest.raises(InvariantBroken):
        decode(orjson.dumps({**fields, "deflated": b64encode(zlib.compress(b'{"currency":"EUR"}')).decode()}), 0)
    for deflated in ("", "AAAA", b64encode(zlib.compress(b" " * 10 * CATALOG_MAX_BYTES)).decode(), "!"):
        with pytest.raises(InvalidInput):
            decode(orjson.dumps({**fields, "deflated": deflated}), 0)


def test_a_catalogue_that_fits_no_record_is_refused_whole() -> None:
    """However its text was written; nothing of it is sent."""
    noise = Random(7)
    names = [noise.randbytes(90).hex() for _ in range(30_000)]
    with pytest.raises(CatalogRefused, match="fits no record"):
        encode(replace(large(1), prices=tuple(p for name in names for p in large(1, name).prices)), None, 0)


def test_a_version_whose_catalogue_can_no_longer_be_read_says_so_when_it_is_asked_for() -> None:
    """One that newer versions replaced holds nobody up; its checksum and time are known without reading it."""
    fields = orjson.loads(encode(replace(parse(WHOLE), effective_from=None), None, 0))
    document = {**fields["catalog"], "meters": [{"id": "m"}]}
    checksum = hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()
    version = decode(orjson.dumps({**fields, "catalog": document, "checksum": checksum}), offset=6)
    assert (version.version, version.checksum, version.effective_from) == (7, checksum, None)
    with pytest.raises(InvariantBroken, match="version 7 can no longer be read"):
        _ = version.catalog


def test_a_lone_price_needs_only_its_model_and_fields() -> None:
    """As an estimate is asked for."""
    assert price_from_document({"model": "flat", "amount": "5"}).model == "flat"
    with pytest.raises(CatalogRefused, match=r"price\.tiers\[0\]\.up_to: must be null"):
        price_from_document({"model": "volume", "tiers": [{"up_to": 5, "unit_amount": "1"}]})
    with pytest.raises(CatalogRefused, match=r"price\.amount: is missing"):
        price_from_document({"model": "flat"})
    with pytest.raises(CatalogRefused, match="price: must be a mapping"):
        price_from_document([1])

"""The catalogue: what is measured, what it costs, and which plans there are; read, checked, versioned.

`parse` is the one way in, for a file and for a body: it answers a Catalog without a fault, or CatalogRefused with all
of them, each named by its path. A Catalog never changes; every `apply` makes a new version of it, whose number is its
offset in `catalog.versions` plus one. `encode` and `decode` are the record of that topic.

`document` is the catalogue in its canonical form, plain values of text, whole numbers and booleans, with defaults left
out: `parse` of it is the same catalogue, and its SHA-256 is the checksum. Neither white space, comments nor the order
of keys change it.
"""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import orjson
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from schemas.catalog_document import MAX_FAULTS, CatalogRefused, Fault, path_of, read, shortened
from schemas.catalog_faults import catalog_faults, price_faults
from schemas.catalog_shapes import Currency, Instant, Meter, Plan, Price
from schemas.errors import InvalidInput, InvariantBroken
from schemas.ids import check_id
from schemas.limits import CATALOG_MAX_BYTES, CATALOG_PLAIN_MAX_BYTES, INPUT_RECORD_MAX_BYTES
from schemas.period import format_time

PLAIN_FORMAT: Final = 1
DEFLATED_FORMAT: Final = 2
"""Formats of the record of `catalog.versions`: with the document itself, or, where that is large, with its zlib bytes
in base 64. A reader that meets a later one stops: it would rate by what it cannot read."""

UNPACKED_KEPT: Final = 2
"""Catalogues kept unpacked beside those that are compiled; the largest take 50 MB."""

RECORD_MARGIN_BYTES: Final = 1024
"""What Kafka's own framing and the key of a record take of `max.message.bytes`."""

_METER: Final[TypeAdapter[Meter]] = TypeAdapter(Meter)
PRICE: Final[TypeAdapter[Price]] = TypeAdapter(Price)
_PLAN: Final[TypeAdapter[Plan]] = TypeAdapter(Plan)
_FIELDS: Final[dict[str, TypeAdapter[Any]]] = {
    "currency": TypeAdapter(Currency),
    "effective_from": TypeAdapter(Instant | None),
}
_PARTS: Final[dict[str, TypeAdapter[Any]]] = {"meters": _METER, "prices": PRICE, "plans": _PLAN}

_PartT = TypeVar("_PartT")


@dataclass(frozen=True)
class Catalog:
    """One catalogue without a fault."""

    currency: str
    meters: tuple[Meter, ...]
    prices: tuple[Price, ...] = ()
    plans: tuple[Plan, ...] = ()
    effective_from: int | None = None
    """Microseconds: of which events on it holds; None, of all. Earlier ones are rated by the version before it."""

    @cached_property
    def document(self) -> dict[str, Any]:
        """Its canonical form."""
        document: dict[str, Any] = {"currency": self.currency}
        if self.effective_from is not None:
            document["effective_from"] = format_time(self.effective_from)
        for kind, parts in (("meters", self.meters), ("prices", self.prices), ("plans", self.plans)):
            if parts:
                document[kind] = [part.model_dump(mode="json", exclude_defaults=True) for part in parts]
        return document

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the canonical form, hexadecimal."""
        return _checksum(self.document)


class Packed(NamedTuple):
    """A catalogue as it lies in memory while nobody asks for it."""

    number: int
    checksum: str
    effective_from: int | None
    deflated: bytes
    """zlib of its document as JSON: some hundredth of what it takes unpacked."""


@dataclass(frozen=True, slots=True)
class CatalogVersion:
    """A catalogue as it was applied: for one tenant, or, with None, for all that have none of their own."""

    version: int
    tenant: str | None
    applied_at: int
    """Microseconds."""
    held: Catalog | Packed

    @property
    def catalog(self) -> Catalog:
        """The catalogue, unpacked if need be. Errors: InvariantBroken where it can no longer be read."""
        return self.held if isinstance(self.held, Catalog) else _unpacked(self.held)

    @property
    def effective_from(self) -> int | None:
        """That of the catalogue."""
        return self.held.effective_from

    @property
    def checksum(self) -> str:
        """That of the catalogue."""
        return self.held.checksum


def parse(text: str | bytes) -> Catalog:
    """A catalogue from YAML or JSON text. Errors: CatalogRefused."""
    return from_document(read(text))


def from_document(document: Any) -> Catalog:
    """A catalogue from plain values; keys are text. Errors: CatalogRefused."""
    if not isinstance(document, dict):
        raise CatalogRefused((Fault("", "the catalogue is no mapping with currency, meters and prices"),))
    faults = _field_faults(document)
    faults += [Fault(path_of((key,)), "is not a field of it") for key in document if key not in (*_FIELDS, *_PARTS)]
    parts = {kind: well_formed(adapter, kind, document.get(kind), faults) for kind, adapter in _PARTS.items()}
    if not parts["meters"] and not document.get("meters"):
        faults.append(Fault("meters", "is missing; a catalogue measures something"))
    between = catalog_faults(parts["meters"], parts["prices"], parts["plans"], document)
    faults += islice(between, max(0, MAX_FAULTS + 1 - len(faults)))
    if faults:
        raise CatalogRefused(faults)
    return _catalog(document, parts)


def price_from_document(document: Any) -> Price:
    """A lone price, of which only `model` and its fields are needed. Errors: CatalogRefused."""
    if not isinstance(document, dict):
        raise CatalogRefused((Fault("price", "must be a mapping"),))
    try:
        price = PRICE.validate_python({"id": "price", "meter": "meter", **document})
    except ValidationError as error:
        raise CatalogRefused([_fault(("price",), details, tagged=True) for details in error.errors()]) from None
    faults = [Fault(f"price.{fault.path}", fault.reason) for fault in price_faults(price)]
    if faults:
        raise CatalogRefused(faults)
    return price


def encode(catalog: Catalog, tenant: str | None, applied_at: int) -> bytes:
    """The record of `catalog.versions` that makes this catalogue the newest of a tenant (None: the common one).

    Errors: CatalogRefused for one that does not fit a record.
    """
    document = orjson.dumps(catalog.document)
    record: dict[str, Any] = {
        "format": PLAIN_FORMAT,
        "tenant": tenant,
        "applied_at": applied_at,
        "checksum": catalog.checksum,
    }
    if len(document) <= CATALOG_PLAIN_MAX_BYTES:
        return orjson.dumps({**record, "catalog": orjson.Fragment(document)})
    deflated = b64encode(zlib.compress(document)).decode()
    encoded = orjson.dumps({**record, "format": DEFLATED_FORMAT, "deflated": deflated})
    if len(document) > CATALOG_MAX_BYTES or len(encoded) > INPUT_RECORD_MAX_BYTES - RECORD_MARGIN_BYTES:
        raise CatalogRefused((Fault("", f"the catalogue has {len(document)} bytes and fits no record"),))
    return encoded


class _Record(msgspec.Struct):
    format: int
    tenant: str | None
    applied_at: int
    checksum: str
    catalog: dict[str, Any] | None = None
    deflated: bytes = b""


_RECORD: Final = msgspec.json.Decoder(_Record)


def decode(raw: bytes, offset: int) -> CatalogVersion:
    """A record of `catalog.versions`. What was applied stands: it is not judged again by rules that came later.

    Its catalogue stays packed until it is asked for. Errors: InvalidInput `bad_catalog` for what `encode` never wrote,
    InvariantBroken for a record of a later format or one whose catalogue is not the one that was applied.
    """
    try:
        record = _RECORD.decode(raw)
        if record.format > DEFLATED_FORMAT:
            raise InvariantBroken(
                f"catalogue version {offset + 1} has format {record.format}, known is {DEFLATED_FORMAT}"
            )
        document = record.catalog if record.format == PLAIN_FORMAT else _inflated(record.deflated)
    except (msgspec.MsgspecError, zlib.error, orjson.JSONDecodeError) as error:
        raise InvalidInput("bad_catalog", f"the record at offset {offset} is no catalogue: {error}") from None
    if document is None:
        raise InvalidInput("bad_catalog", f"the record at offset {offset} has no catalogue")
    if not isinstance(document, dict) or _checksum(document) != record.checksum:
        raise InvariantBroken(f"catalogue version {offset + 1} does not have the checksum it was applied with")
    if record.tenant is not None:
        check_id(record.tenant, "/tenant")
    deflated = record.deflated or zlib.compress(orjson.dumps(document), 1)
    packed = Packed(offset + 1, record.checksum, _effective_from(document), deflated)
    return CatalogVersion(offset + 1, record.tenant, record.applied_at, packed)


@lru_cache(UNPACKED_KEPT)
def _unpacked(packed: Packed) -> Catalog:
    document = _inflated(packed.deflated)
    faults: list[Fault] = []
    parts = {kind: well_formed(adapter, kind, document.get(kind), faults) for kind, adapter in _PARTS.items()}
    if faults:
        raise InvariantBroken(f"catalogue version {packed.number} can no longer be read: {faults[0]}")
    return _catalog(document, parts)


def _inflated(deflated: bytes) -> Any:
    """The document of a compressed record, which `encode` bounded; a bomb is cut off and then is no JSON."""
    return orjson.loads(zlib.decompressobj().decompress(deflated, CATALOG_MAX_BYTES))


def _catalog(document: Mapping[str, Any], parts: Mapping[str, Mapping[int, Any]]) -> Catalog:
    return Catalog(
        currency=document["currency"],
        meters=tuple(parts["meters"].values()),
        prices=tuple(parts["prices"].values()),
        plans=tuple(parts["plans"].values()),
        effective_from=_effective_from(document),
    )


def _effective_from(document: Mapping[str, Any]) -> int | None:
    start: int | None = _FIELDS["effective_from"].validate_python(document.get("effective_from"))
    return start


def _checksum(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _field_faults(document: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with the fields that are no lists of parts."""
    faults = [] if "currency" in document else [Fault("currency", "is missing")]
    for name, adapter in _FIELDS.items():
        if name in document:
            try:
                adapter.validate_python(document[name])
            except ValidationError as error:
                faults += [_fault((name,), details, tagged=False) for details in error.errors()]
    return faults


def well_formed(adapter: TypeAdapter[_PartT], name: str, listed: Any, faults: list[Fault]) -> dict[int, _PartT]:
    """The well-formed parts of a list by their index; what is wrong with the others is added to `faults`, under the
    list's name."""
    parts: dict[int, _PartT] = {}
    if listed is None:
        return parts
    if not isinstance(listed, list):
        faults.append(Fault(name, "must be a list"))
        return parts
    for index, part in enumerate(listed):
        if len(faults) > MAX_FAULTS:
            break  # nobody reads the ten thousandth: what is wrong is wrong with all of them
        try:
            parts[index] = adapter.validate_python(part)
        except ValidationError as error:
            faults += [_fault((name, index), details, tagged=adapter is PRICE) for details in error.errors()]
    return parts


def _fault(parts: tuple[str | int, ...], details: ErrorDetails, *, tagged: bool) -> Fault:
    """Pydantic's error with our path and words. `tagged`: the model's name stands first in its location."""
    kind, where = details["type"], details["loc"]
    if tagged and where:
        where = where[1:]
    path = path_of((*parts, *(part for part in where if part != "[key]")))
    if kind.startswith("union_tag"):
        found = details.get("ctx", {}).get("tag")
        known = details.get("ctx", {}).get("expected_tags", "").replace("'", "")
        reason = (
            f"{shortened(str(found))!r} is no price model; there are {known}" if found is not None else "is missing"
        )
        return Fault(f"{path}.model", reason)
    return Fault(path, _reason(kind, details))


_REASONS: Final = {
    "missing": "is missing",
    "extra_forbidden": "is not a field of it",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
}


def _reason(kind: str, details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    match kind:
        case "string_too_short":
            return "must not be empty"
        case "too_short":
            return f"must have at least {context['min_length']} item"
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
        case "literal_error":
            return f"must be one of {context['expected']}"
        case _:
            return _REASONS.get(kind, details["msg"])

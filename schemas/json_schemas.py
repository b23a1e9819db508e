"""JSON Schemas of all events, generated from the types that read and write them: `python -m schemas.json_schemas`.

`json/in/<type>.v1.json` is the data of what is taken on `usage.events` and `account.events`, `json/out/<type>.v1.json`
that of what is told on `billing.events`, `json/envelope.json` the CloudEvent around both. They are checked in, and a
test holds them to be what the types say. Our own commands (`tollgate.…`) are nobody's to send and have none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from schemas.account_types import ACCOUNT_TYPES
from schemas.billing_events import BILLING_EVENTS
from schemas.event import COMMAND_PREFIX
from schemas.usage_types import USAGE_TYPES

FOLDER: Final = Path(__file__).parent / "json"
DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_ID: Final = {"type": "string", "minLength": 1, "maxLength": 200}

ENVELOPE: Final[dict[str, Any]] = {
    "$schema": DRAFT,
    "$id": "https://tollgate.dev/schemas/envelope/1",
    "title": "CloudEvents 1.0, as Tollgate takes and tells it",
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        **dict.fromkeys(("id", "source", "type", "subject", "tenantid"), _ID),
        "time": {"type": "string", "format": "date-time"},
        "dataschema": {"type": "string", "pattern": "/[^/]+/1$"},
        "data": {"type": "object"},
    },
}


def generated() -> dict[str, dict[str, Any]]:
    """Every schema by its path below FOLDER."""
    shapes_in = {name: known.shape for name, known in {**USAGE_TYPES, **ACCOUNT_TYPES}.items()}
    schemas = {
        f"in/{name}.v1.json": _schema(name, shape)
        for name, shape in shapes_in.items()
        if not name.startswith(COMMAND_PREFIX)
    }
    schemas |= {f"out/{name}.v1.json": _schema(name, shape) for name, shape in BILLING_EVENTS.items()}
    return {"envelope.json": ENVELOPE, **schemas}


def written(schema: dict[str, Any]) -> bytes:
    """As it stands in its file."""
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def _schema(name: str, shape: type[msgspec.Struct]) -> dict[str, Any]:
    (inner,), definitions = msgspec.json.schema_components([shape], ref_template="#/$defs/{name}")
    definitions = _as_others_read(definitions)
    body = dict(definitions.pop(inner["$ref"].rpartition("/")[2]))
    # What a shape is called inside is no part of the promise.
    body.update({"$schema": DRAFT, "$id": f"https://tollgate.dev/schemas/{name}/1", "title": name})
    if definitions:
        body["$defs"] = definitions
    return body


def _as_others_read(schema: Any) -> Any:
    """A schema with patterns in JSON Schema's own dialect (ECMA 262), where the end of a text is `$`, never `\\Z`."""
    if isinstance(schema, dict):
        return {
            name: part.replace(r"\Z", "$") if name == "pattern" and isinstance(part, str) else _as_others_read(part)
            for name, part in schema.items()
        }
    return [_as_others_read(part) for part in schema] if isinstance(schema, list) else schema


def main() -> None:
    """Writes the files, and takes away those that no type has any more."""
    schemas = generated()
    for path in FOLDER.rglob("*.json"):
        if path.relative_to(FOLDER).as_posix() not in schemas:
            path.unlink()
    for name, schema in schemas.items():
        (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_bytes(written(schema))


if __name__ == "__main__":
    main()

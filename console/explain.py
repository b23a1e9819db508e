"""`tollgate explain`: why this amount, or why refused, from the ledger itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import click
import orjson

from api.explaining import EXPLAINERS
from api.rows import ClickHouseRows
from api.sources import Sources
from backing.launch import attach
from schemas.catalog import CatalogVersion
from schemas.errors import InvalidInput
from schemas.settings import Settings
from streams.catalogue import read_all
from streams.lookup import Records


@click.command()
@click.argument("kind", type=click.Choice(sorted(EXPLAINERS)))
@click.argument("name", metavar="ID")
@click.option("--tenant", help="Of this tenant; needed where several have an event of this id.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def explain(kind: str, name: str, tenant: str | None, as_json: bool) -> None:
    """Say why an event (ID or SOURCE/ID), a charge or an invoice's line came to what it did, or why a check denied."""
    found = asyncio.run(_found(kind, tenant, name))
    if found is None:
        raise InvalidInput("not_found", f"there is no {kind} {name}")
    tenants = sorted({record["tenant"] for record in found.get("records", ())})
    if tenant is None and len(tenants) > 1:
        raise click.UsageError(f"{', '.join(tenants)} have an event of this id; say which: --tenant")
    if as_json:
        click.echo(orjson.dumps(found))
    else:
        click.echo("\n".join(_lines(found)))


async def _found(kind: str, tenant: str | None, name: str) -> dict[str, Any] | None:
    settings = attach(Settings.from_environment(), ("kafka", "clickhouse"))
    assert settings.kafka_bootstrap is not None
    assert settings.clickhouse_url is not None
    rows = ClickHouseRows(settings.clickhouse_url)
    try:
        versions: Mapping[int, CatalogVersion] = {
            version.version: version for version in await read_all(settings.kafka_bootstrap)
        }
        return await EXPLAINERS[kind](Sources(rows, Records(settings.kafka_bootstrap), versions.get), tenant, name)
    finally:
        await rows.close()


def _lines(found: Mapping[str, Any], indent: str = "") -> list[str]:
    """Plain text: one line a value, lists and objects indented below their name; what is empty is left out."""
    lines: list[str] = []
    for name, value in found.items():
        if value is None or value == [] or value == {}:
            continue
        if isinstance(value, Mapping):
            lines += [f"{indent}{name}:", *_lines(value, f"{indent}  ")]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            lines.append(f"{indent}{name}:")
            for one in value:
                inner = _lines(one, f"{indent}    ") if isinstance(one, Mapping) else [f"{indent}    {one}"]
                lines += [f"{indent}  - {inner[0].lstrip()}", *inner[1:]] if inner else []
        else:
            lines.append(f"{indent}{name}: {value}")
    return lines

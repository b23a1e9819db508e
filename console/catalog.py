"""`tollgate catalog`: check a file, apply it, show and compare what is applied, import a price list."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import click
import orjson

from backing.launch import attach
from console.litellm import MAX_LIST_BYTES, convert, lines, read_list
from rating.book import PriceBook
from rating.model import exact_text
from rating.rate import compile_price
from schemas.catalog import Catalog, CatalogVersion, from_document, parse
from schemas.catalog_difference import differences
from schemas.catalog_document import MAX_BYTES, CatalogRefused, write
from schemas.errors import InvalidInput
from schemas.ids import check_id
from schemas.money import NANOS
from schemas.period import format_time
from schemas.settings import Settings
from streams import catalogue

SAMPLE_UNITS = 1_000_000
"""The quantity that `check` prices for a look at every price."""

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_VERSION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


@click.group()
def catalog() -> None:
    """Check, apply, show, compare and import catalogues."""


@catalog.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@as_json
def check(file: Path, as_json: bool) -> None:
    """Name every fault of FILE by its path, or say what each price comes to for a million units."""
    read = read_file(file)
    samples = [_sample(price) for price in read.prices]
    if as_json:
        click.echo(orjson.dumps({**_summary(read), "samples": samples}))
        return
    for sample in samples:
        about = f"{sample['meter']} {sample['match']}" if sample["match"] else sample["meter"]
        click.echo(f"{sample['price']}: {sample['model']} for {about}: {SAMPLE_UNITS:,} units {sample['amount']}")
    click.echo(f"no fault: {_counted(read)}, checksum {read.checksum[:12]}")


@catalog.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tenant", help="Replace the common catalogue for this tenant alone.")
@as_json
def apply(file: Path, tenant: str | None, as_json: bool) -> None:
    """Make FILE a new version, and wait until running workers have picked it up."""
    read = read_file(file)
    if tenant is not None:
        check_id(tenant, "/tenant")
    version, picked_up = asyncio.run(_apply(read, tenant, time.time_ns() // 1_000))
    if as_json:
        click.echo(orjson.dumps({"version": version, "tenant": tenant, **_summary(read), "picked_up": picked_up}))
    else:
        click.echo(f"version {version} of {tenant or 'all tenants'}: {_counted(read)}, checksum {read.checksum[:12]}")
    if not picked_up:
        click.echo(
            "not every running process has said that it has the version: it is in force as they read it", err=True
        )


async def _apply(read: Catalog, tenant: str | None, now: int) -> tuple[int, bool]:
    settings = attach(Settings.from_environment(), ("kafka",))
    assert settings.kafka_bootstrap is not None, "attach answers an address or raises"
    if settings.redis_url is None:
        return await catalogue.apply(settings.kafka_bootstrap, read, tenant, now), False
    return await catalogue.apply_everywhere(settings.kafka_bootstrap, settings.redis_url, read, tenant, now)


@catalog.command()
@click.option("--tenant", help="What is in force for this tenant.")
@click.option("--version", "number", type=click.IntRange(min=1), help="This version, whosever it is.")
@as_json
def show(tenant: str | None, number: int | None, as_json: bool) -> None:
    """Print the catalogue in force, or a version, as YAML that can be applied again."""
    if tenant is not None and number is not None:
        raise click.UsageError("--tenant and --version exclude each other")
    versions = asyncio.run(catalogue.read_all(_kafka()))
    found = _in_force(versions, tenant) if number is None else _numbered(versions, number)
    about = {
        "version": found.version,
        "tenant": found.tenant,
        "applied_at": format_time(found.applied_at),
        "checksum": found.catalog.checksum,
    }
    if as_json:
        click.echo(orjson.dumps({**about, "catalog": found.catalog.document}))
        return
    click.echo(f"# version {found.version} of {found.tenant or 'all tenants'}, applied {about['applied_at']}")
    click.echo(f"# checksum {found.catalog.checksum}")
    click.echo(write(found.catalog.document), nl=False)


@catalog.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@as_json
def diff(before: str, after: str, as_json: bool) -> None:
    """Print what differs from A to B, each a file or the number of a version."""
    found = differences(*_either(before, after))
    if as_json:
        click.echo(orjson.dumps([difference._asdict() for difference in found]))
        return
    for path, old, new in found:
        if old is None:
            click.echo(f"+ {path}: {_shown(new)}")
        elif new is None:
            click.echo(f"- {path}: {_shown(old)}")
        else:
            click.echo(f"~ {path}: {_shown(old)} -> {_shown(new)}")


@catalog.group(name="import")
def import_() -> None:
    """Make a catalogue of a price list that others keep."""


@import_.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--provider", "providers", multiple=True, help="Take this provider's models alone (again for more).")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the catalogue here.")
@as_json
def litellm(file: Path, providers: tuple[str, ...], output: Path | None, as_json: bool) -> None:
    """Make a catalogue of litellm's model_prices_and_context_window.json.

    Prints the catalogue, ready for `check` and `apply`, and on standard error what was left out and why.
    """
    with file.open("rb") as opened:
        imported = convert(read_list(opened.read(MAX_LIST_BYTES + 1)), providers)
    from_document(imported.catalog)  # which refuses what `check` would
    text = "".join(f"{line}\n" for line in lines(imported.catalog))
    if len(text.encode()) > MAX_BYTES:
        raise InvalidInput("too_large", f"the catalogue would be larger than {MAX_BYTES} bytes: name providers")
    if output is not None:
        output.write_text(text, encoding="utf-8")
    if as_json:
        skipped = [one._asdict() for one in imported.skipped]
        report = {"models": imported.models, "prices": len(imported.catalog["prices"]), "skipped": skipped}
        click.echo(orjson.dumps(report if output is not None else {**report, "catalog": imported.catalog}))
        return
    if output is None:
        click.echo(text, nl=False)
    for name, reason, count in imported.reasons():
        click.echo(f"left out: {name or 'the whole model'}: {reason} ({count:,} models)", err=True)
    click.echo(f"{len(imported.catalog['prices']):,} prices of {imported.models:,} models", err=True)


def read_file(file: Path) -> Catalog:
    """The catalogue of a file; its faults, one a line, and exit 2."""
    with file.open("rb") as opened:
        text = opened.read(MAX_BYTES + 1)
    try:
        return parse(text)
    except CatalogRefused as refused:
        for fault in refused.faults:
            click.echo(f"{file}: {fault}", err=True)
        click.get_current_context().exit(2)


def _summary(read: Catalog) -> dict[str, Any]:
    return {
        "checksum": read.checksum,
        "currency": read.currency,
        "meters": len(read.meters),
        "prices": len(read.prices),
        "plans": len(read.plans),
    }


def _counted(read: Catalog) -> str:
    return f"{read.currency}, {len(read.meters)} meters, {len(read.prices)} prices, {len(read.plans)} plans"


def _sample(price: Any) -> dict[str, str]:
    amount = exact_text(compile_price(price).closed([SAMPLE_UNITS * NANOS]).amount / NANOS)
    match = ", ".join(f"{name}={value}" for name, value in price.match.items())
    return {"price": price.id, "meter": price.meter, "match": match, "model": price.model, "amount": amount}


def _in_force(versions: list[CatalogVersion], tenant: str | None) -> CatalogVersion:
    """What a tenant (None: one without its own) is rated by now."""
    book = PriceBook()
    for version in versions:
        book.add(version)
    now = time.time_ns() // 1_000
    own = book.version(tenant, book.position, now) if tenant is not None else None
    found = own or book.version(None, book.position, now)
    if found is None:
        whom = "all tenants" if tenant is None else f"{tenant} or all tenants"
        raise InvalidInput("not_found", f"no catalogue is applied for {whom}: `tollgate catalog apply FILE`")
    return found


def _numbered(versions: list[CatalogVersion], number: int) -> CatalogVersion:
    for version in versions:
        if version.version == number:
            return version
    newest = versions[-1].version if versions else 0
    raise InvalidInput("not_found", f"there is no version {number}; the newest is {newest}")


def _either(*names: str) -> list[Catalog]:
    """Catalogues by file name or version number; a number that is a file's name is the file."""
    versions: list[CatalogVersion] | None = None
    catalogs = []
    for name in names:
        if Path(name).is_file():
            catalogs.append(read_file(Path(name)))
        elif _VERSION.fullmatch(name):
            if versions is None:
                versions = asyncio.run(catalogue.read_all(_kafka()))
            catalogs.append(_numbered(versions, int(name)).catalog)
        else:
            raise InvalidInput("not_found", f"{name} is neither a file nor the number of a version")
    return catalogs


def _kafka() -> str:
    bootstrap = attach(Settings.from_environment(), ("kafka",)).kafka_bootstrap
    assert bootstrap is not None, "attach answers an address or raises"
    return bootstrap


def _shown(value: Any) -> str:
    return orjson.dumps(value).decode()

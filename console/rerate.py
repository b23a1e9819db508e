"""`tollgate rerate`: what history would have cost under another catalogue, and, if asked, the entries that make it so.

It reads the charges that ClickHouse has, customer by customer, and changes nothing; `--apply` sends one command a
customer, which books the differences as further charges and touches none that stands. Applied twice, the second time
finds no difference.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final

import click
import orjson
from clickhouse_connect.driver.exceptions import ClickHouseError

from backing.launch import attach
from console.catalog import read_file
from ingest.accept import Record
from ingest.publish import Publisher
from rating.book import CompiledCatalogue
from rating.counting import period_start
from rating.rerate import Charge, Line, Name, rerate
from schemas.account import Account, account_key, new_account, unpack_account
from schemas.catalog import Catalog
from schemas.clickhouse import connect, translated
from schemas.commands import Command
from schemas.device_commands import RERATED, RERATED_FROM, RERATED_PERIOD, USAGE_RERATE
from schemas.errors import InvalidInput
from schemas.ids import partition_of
from schemas.money import NANOS, format_nanos
from schemas.period import Period, format_time, parse_time
from schemas.settings import Settings
from schemas.topics import ACCOUNT_EVENTS
from streams.accounts.redis import RedisAccounts
from streams.ledger import partition_count

CUSTOMERS_AT_ONCE: Final = 100
LINES_OF_A_COMMAND: Final = 300

_CUSTOMERS: Final = """
SELECT DISTINCT tenant, customer FROM tollgate.ledger_entries
WHERE notEmpty(charge.meter) AND occurred_at >= fromUnixTimestamp64Micro({start:Int64})
    AND occurred_at < fromUnixTimestamp64Micro({end:Int64})
    AND ({tenant:String} = '' OR tenant = {tenant:String}) AND event_type != {command:String}
ORDER BY tenant, customer"""
_CHARGES: Final = """
SELECT
    customer, event_type, toUnixTimestamp64Micro(occurred_at), meter, price_id, dimensions, currency,
    units, nanos, amount, arrayCount(other -> other = meter, charge.meter) > 1
FROM tollgate.ledger_entries
ARRAY JOIN
    charge.meter AS meter, charge.price_id AS price_id, charge.dimensions AS dimensions, charge.currency AS currency,
    charge.quantity_units AS units, charge.quantity_nanos AS nanos, charge.amount AS amount,
    arrayEnumerate(charge.meter) AS number
WHERE tenant = {tenant:String} AND customer IN {customers:Array(String)}
    AND occurred_at >= fromUnixTimestamp64Micro({start:Int64})
    AND (occurred_at < fromUnixTimestamp64Micro({end:Int64}) OR event_type = {command:String})
ORDER BY customer, partition, seq, number"""


@dataclass(frozen=True, slots=True)
class Rerated:
    """What one customer's history comes to."""

    tenant: str
    customer: str
    lines: list[Line]


@click.command("rerate")
@click.option("--from", "since", required=True, metavar="TIME", help="Events from then on (RFC 3339)...")
@click.option("--to", "until", required=True, metavar="TIME", help="...and before then.")
@click.option(
    "--catalog", "file", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE"
)
@click.option("--tenant", help="Customers of this tenant alone.")
@click.option("--apply", "book", is_flag=True, help="Book the differences as further entries.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def rerate_command(since: str, until: str, file: Path, tenant: str | None, book: bool, as_json: bool) -> None:
    """Rate history again under another catalogue: the difference by customer, price and line."""
    span = Period(parse_time(since, "/from"), parse_time(until, "/to"))
    if span.start >= span.end:
        raise click.UsageError("--from lies before --to")
    catalogue = read_file(file)
    settings = attach(Settings.from_environment())
    found, sent = asyncio.run(_run(settings, catalogue, span, tenant or "", book))
    if as_json:
        click.echo(orjson.dumps(_document(found, sent if book else None)))
        return
    for one in found:
        for line in one.lines:
            if line.difference:
                click.echo(_line(one, line))
    for currency, (before, after) in sorted(_totals(found).items()):
        click.echo(
            f"{currency}: {format_nanos(before)} as charged, {format_nanos(after)} under {file.name}, "
            f"difference {format_nanos(after - before)}"
        )
    if book:
        click.echo(f"{sent} commands are on their way; the ledger has their entries in a moment")


async def _run(
    settings: Settings, catalogue: Catalog, span: Period, tenant: str, book: bool
) -> tuple[list[Rerated], int]:
    assert settings.kafka_bootstrap is not None
    assert settings.redis_url is not None
    assert settings.clickhouse_url is not None
    compiled = CompiledCatalogue(0, catalogue)
    accounts = RedisAccounts(settings.redis_url, timeout_seconds=10.0)
    found: list[Rerated] = []
    sent = 0
    try:
        partitions = await partition_count(settings.kafka_bootstrap)
        async with aclosing(_histories(settings.clickhouse_url, accounts, partitions, span, tenant)) as histories:
            async for owner, customer, account, rows in histories:
                try:
                    found.append(Rerated(owner, customer, _lines(rows, compiled, account, span)))
                except InvalidInput as refusal:
                    raise InvalidInput(refusal.reason, f"{owner}/{customer}: {refusal.detail}") from None
        if book:
            commands = [command for one in found for command in _commands(one, catalogue, span)]
            async with Publisher(settings.kafka_bootstrap) as publisher:
                for command in commands:
                    await publisher.put(_record(command), command.id)
            sent = len(commands)
    finally:
        await accounts.close()
    return found, sent


async def _histories(
    url: str, accounts: RedisAccounts, partitions: int, span: Period, tenant: str
) -> AsyncGenerator[tuple[str, str, Account, list[Sequence[Any]]], None]:
    """Every customer that was charged within the span, with its account and the charges from its period's start on."""
    names = {"start": span.start, "end": span.end, "command": USAGE_RERATE}
    customers = await asyncio.to_thread(_ask, url, _CUSTOMERS, {**names, "tenant": tenant})
    done = 0
    for owner, of_tenant in groupby(customers, key=lambda row: str(row[0])):
        for some in _batched(str(row[1]) for row in of_tenant):
            known = [await _account(accounts, partitions, owner, customer) for customer in some]
            start = min(period_start(account, span.start) for account in known)
            asked = {**names, "tenant": owner, "customers": some, "start": start}
            rows = await asyncio.to_thread(_ask, url, _CHARGES, asked)
            by_customer = {customer: list(group) for customer, group in groupby(rows, key=lambda row: str(row[0]))}
            for customer, account in zip(some, known, strict=True):
                yield owner, customer, account, by_customer.get(customer, [])
            done += len(some)
            if sys.stderr.isatty():
                print(f"\r{done} of {len(customers)} customers", end="", file=sys.stderr, flush=True)


async def _account(accounts: RedisAccounts, partitions: int, tenant: str, customer: str) -> Account:
    """The account as it stands: its plans by time, and its own prices."""
    _, (packed,) = await accounts.snapshot(partition_of(customer, partitions), [account_key(tenant, customer)])
    return unpack_account(packed) if packed is not None else new_account(tenant, customer)


def _lines(rows: Iterable[Sequence[Any]], compiled: CompiledCatalogue, account: Account, span: Period) -> list[Line]:
    charges: list[Charge] = []
    booked: list[tuple[Name, int]] = []
    for _, event_type, occurred_at, meter, price_id, dimensions, currency, units, nanos, amount, split in rows:
        if event_type == USAGE_RERATE:
            if (name := _booked_for(dimensions, span, meter, price_id, currency)) is not None:
                booked.append((name, int(amount)))
            continue
        quantity = int(units) * NANOS + int(nanos)
        named = tuple(sorted(dimensions.items()))
        charges.append(Charge(occurred_at, meter, price_id, named, currency, quantity, int(amount), bool(split)))
    lines = {line.name: line for line in rerate(charges, compiled, account, span)}
    for name, amount in booked:
        lines.setdefault(name, Line(name)).before += amount
    return list(lines.values())


def _booked_for(dimensions: dict[str, str], span: Period, meter: str, price_id: str, currency: str) -> Name | None:
    """The line that an earlier rerating has booked, if it was for a part of the span."""
    start, _, end = dimensions[RERATED].partition("/")
    if parse_time(start) < span.start or parse_time(end) > span.end:
        return None
    return Name(parse_time(dimensions[RERATED_PERIOD]), meter, dimensions[RERATED_FROM], price_id, currency)


def _commands(one: Rerated, catalogue: Catalog, span: Period) -> Iterator[Command]:
    window = f"{format_time(span.start)}/{format_time(span.end)}"
    differing = [line for line in one.lines if line.difference]
    for number, start in enumerate(range(0, len(differing), LINES_OF_A_COMMAND)):
        charges = [
            {
                "meter": line.name.meter,
                "price_id": line.name.price_after,
                "catalog_version": 0,
                "unit_amount": "",
                "currency": line.name.currency,
                "dimensions": {
                    RERATED: window,
                    RERATED_PERIOD: format_time(line.name.period_start),
                    RERATED_FROM: line.name.price_before,
                },
                "quantity": 0,
                "amount": line.difference,
            }
            for line in differing[start : start + LINES_OF_A_COMMAND]
        ]
        # What was booked so far is part of the name: the same difference is booked once, a later one again.
        so_far = sum(line.before for line in one.lines)
        name = f"rerate:{catalogue.checksum[:16]}:{span.start}:{span.end}:{so_far}:{number}"
        data = {"reason": "rated under another catalogue", "charges": charges}
        yield Command(one.tenant, one.customer, USAGE_RERATE, name, data)


def _record(command: Command) -> Record:
    return Record(ACCOUNT_EVENTS, command.customer.encode(), command.encoded())


def _totals(found: Iterable[Rerated]) -> dict[str, tuple[int, int]]:
    totals: dict[str, tuple[int, int]] = {}
    for one in found:
        for line in one.lines:
            before, after = totals.get(line.name.currency, (0, 0))
            totals[line.name.currency] = (before + line.before, after + line.after)
    return totals


def _document(found: Sequence[Rerated], sent: int | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "totals": [
            {
                "currency": currency,
                "before": format_nanos(before),
                "after": format_nanos(after),
                "difference": format_nanos(after - before),
            }
            for currency, (before, after) in sorted(_totals(found).items())
        ],
        "lines": [_shown(one, line) for one in found for line in one.lines],
    }
    return document if sent is None else {**document, "commands": sent}


def _shown(one: Rerated, line: Line) -> dict[str, Any]:
    return {
        "tenant": one.tenant,
        "customer": one.customer,
        "period_start": format_time(line.name.period_start),
        "meter": line.name.meter,
        "price_before": line.name.price_before or None,
        "price_after": line.name.price_after or None,
        "currency": line.name.currency,
        "charges": line.charges,
        "quantity": format_nanos(line.quantity),
        "before": format_nanos(line.before),
        "after": format_nanos(line.after),
        "difference": format_nanos(line.difference),
    }


def _line(one: Rerated, line: Line) -> str:
    name = line.name
    prices = name.price_after if name.price_before == name.price_after else f"{name.price_before} -> {name.price_after}"
    return (
        f"{one.tenant}/{one.customer}  {format_time(name.period_start)[:10]}  {name.meter}  {prices}: "
        f"{format_nanos(line.before)} -> {format_nanos(line.after)} {name.currency} ({format_nanos(line.difference)})"
    )


def _batched(customers: Iterable[str]) -> Iterator[list[str]]:
    pending = iter(customers)
    while some := list(islice(pending, CUSTOMERS_AT_ONCE)):
        yield some


def _ask(url: str, query: str, parameters: dict[str, Any]) -> Sequence[Sequence[Any]]:
    with closing(connect(url)) as client:
        try:
            rows: Sequence[Sequence[Any]] = client.query(query, parameters=parameters).result_rows
        except ClickHouseError as error:
            raise translated(error) from error
    return rows

"""`tollgate invoices`: close periods, finalize, void and show invoices."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import orjson

from backing.launch import attach
from invoicing.by_day import Day
from invoicing.close import Closer
from invoicing.opening import LOCK, ledger_ends, opened
from invoicing.seller import seller_of
from invoicing.settling import caught_up
from invoicing.summary import Summary
from invoicing.usage_rows import UsageRows
from schemas.currencies import format_minor
from schemas.errors import Conflict, InvalidInput, Unavailable
from schemas.period import parse_month
from schemas.settings import Settings
from streams.ledger import partition_count
from streams.lock import LEASE_MS, Lock

LOCK_WAIT_SECONDS: Final = LEASE_MS / 1_000 + 5
LISTING_SECONDS: Final = 5.0
"""How long a listing waits for ClickHouse to have what the ledger has."""


@click.group()
def invoices() -> None:
    """Close billing periods; finalize, void and show invoices."""


@invoices.command()
@click.option("--period", required=True, metavar="YYYY-MM", help="Periods that end in this month.")
@click.option("--customer", default="", metavar="ID", help="One customer alone.")
@click.option("--tenant", default="", metavar="TENANT", help="One tenant alone.")
@click.option("--finalize", "finalizing", is_flag=True, help="Finalize the drafts as well.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def close(period: str, customer: str, tenant: str, finalizing: bool, as_json: bool) -> None:
    """Draft the invoice of every billing period that ends in a month. Run again, it brings drafts up to date."""
    summary = asyncio.run(_close(attach(Settings.from_environment()), period, customer, tenant, finalizing))
    if as_json:
        click.echo(orjson.dumps({**summary.document(), "invoices": [name for _, name in summary.invoices]}))
        return
    click.echo(
        f"{summary.customers} customers, {summary.periods} periods: {summary.drafted} invoices drafted, "
        f"{summary.unchanged} unchanged, {summary.empty} without anything new to bill, {summary.lines} lines"
    )
    for currency, total in sorted(summary.totals.items()):
        click.echo(f"total {format_minor(total, currency)} {currency}")
    for of, name in summary.invoices[:20]:
        click.echo(f"  {name}  ({of})")
    if len(summary.invoices) > 20:
        click.echo(f"  and {len(summary.invoices) - 20} more")


async def _close(settings: Settings, period: str, customer: str, tenant: str, finalizing: bool) -> Summary:
    window = parse_month(period, "/period")
    assert settings.redis_url is not None
    lock = Lock(settings.redis_url, LOCK)
    try:
        # Longer than the lease of a closer that died.
        async with lock.held(LOCK_WAIT_SECONDS) as fence:
            if fence is None:
                raise Conflict("locked", "another process is closing periods")
            async with opened(settings) as closer:
                final = partial(closer.finalize_all, refresh=False) if finalizing else None
                summary = await closer.close(
                    window, tenant=tenant, customer=customer, progress=_progress, drafted=final
                )
                await _shown(closer)
                return summary
    finally:
        await lock.close()


@invoices.command()
@click.argument("invoice_id", metavar="ID")
@click.option("--tenant", default="", metavar="TENANT", help="Whose it is, where more than one has this id.")
def finalize(invoice_id: str, tenant: str) -> None:
    """Bring a draft up to date, and give it its number."""

    async def run(settings: Settings) -> dict[str, Any]:
        of = await _tenant_of(settings, invoice_id, tenant)
        async with opened(settings) as closer:
            body = await closer.finalize(of, invoice_id)
            await _shown(closer)
            return body

    body = asyncio.run(run(attach(Settings.from_environment())))
    click.echo(f"{body['id']} {body['number']} {body['state']} total {body['total']} due {body['amount_due']}")


@invoices.command()
@click.argument("invoice_id", metavar="ID")
@click.option("--tenant", default="", metavar="TENANT", help="Whose it is, where more than one has this id.")
@click.option("--reason", default="", help="Kept with it.")
def void(invoice_id: str, tenant: str, reason: str) -> None:
    """Take an invoice back: closing its period again makes the next revision."""

    async def run(settings: Settings) -> dict[str, Any]:
        of = await _tenant_of(settings, invoice_id, tenant)
        async with opened(settings) as closer:
            body = await closer.void(of, invoice_id, reason)
            await _shown(closer)
            return body

    body = asyncio.run(run(attach(Settings.from_environment())))
    click.echo(f"{body['id']} {body['number'] or '-'} {body['state']}")


@invoices.command()
@click.argument("invoice_id", metavar="ID")
@click.option("--tenant", default="", metavar="TENANT", help="Whose it is, where more than one has this id.")
@click.option("--pdf", "pdf_file", type=click.Path(dir_okay=False, path_type=Path), help="Write it there as a PDF.")
@click.option("--json", "as_json", is_flag=True, help="Print its document.")
def show(invoice_id: str, tenant: str, pdf_file: Path | None, as_json: bool) -> None:
    """Show an invoice."""

    async def run(settings: Settings) -> tuple[dict[str, Any], list[Day]]:
        of = await _tenant_of(settings, invoice_id, tenant)
        async with opened(settings) as closer:
            body = await closer.invoice(of, invoice_id)
            return body, [] if as_json else await closer.days(of, body)

    settings = attach(Settings.from_environment())
    body, days = asyncio.run(run(settings))
    if as_json:
        click.echo(orjson.dumps(body))
        return
    from invoicing.render import pdf, text

    if pdf_file is None:
        click.echo(text(body, days, seller_of(settings)))
        return
    try:
        pdf_file.write_bytes(pdf(body, days, seller_of(settings)))
    except OSError as error:
        raise InvalidInput("file", f"{pdf_file}: {error.strerror}") from None
    click.echo(f"{pdf_file}")


@invoices.command()
@click.option("--customer", default="", metavar="ID", help="One customer alone.")
@click.option("--tenant", default="", metavar="TENANT", help="One tenant alone.")
@click.option("--state", default="", help="One state alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(customer: str, tenant: str, state: str, as_json: bool) -> None:
    """List invoices as ClickHouse has them."""
    settings = attach(Settings.from_environment())
    assert settings.clickhouse_url is not None
    rows = UsageRows(settings.clickhouse_url)
    asyncio.run(_up_to_date(settings, rows))
    found = [
        (of, orjson.loads(body))
        for of, _, _, body in rows.documents(
            "invoice",
            "({customer:String} = '' OR customer = {customer:String}) AND ({tenant:String} = '' OR tenant = "
            "{tenant:String}) AND ({state:String} = '' OR JSONExtractString(body, 'state') = {state:String}) "
            "ORDER BY tenant, customer, JSONExtractString(body, 'created_at')",
            {"customer": customer, "tenant": tenant, "state": state},
        )
    ]
    if as_json:
        click.echo(orjson.dumps([{**body, "tenant": of} for of, body in found]))
        return
    for of, body in found:
        month = body["period"]["start"][:10]
        click.echo(
            f"{body['id']}  {body['number'] or '-':<12} {of:<12} {body['customer']:<24} {month}  {body['state']:<13} "
            f"{body['total']:>12} {body['currency']}"
        )


async def _tenant_of(settings: Settings, invoice_id: str, tenant: str) -> str:
    """The tenant that has an invoice; the one that is named, or the only one."""
    if tenant:
        return tenant
    url = settings.clickhouse_url
    assert url is not None
    rows = await asyncio.to_thread(UsageRows, url)
    for _ in range(20):
        found = await asyncio.to_thread(rows.documents, "invoice", "id = {id:String}", {"id": invoice_id})
        if found:
            break
        await asyncio.sleep(0.25)  # it may have been drafted a moment ago
    if len(found) != 1:
        reason = "there is no such invoice" if not found else "several tenants have it: say --tenant"
        raise InvalidInput("not_found", f"invoice {invoice_id}: {reason}")
    return found[0][0]


async def _shown(closer: Closer) -> None:
    """Waits until the views have what was done: whoever looks next finds it. It is done also where they do not."""
    try:
        await closer.position(range(closer.partitions))
    except Unavailable as late:
        click.echo(f"tollgate: done, but the views and `invoices ls` do not show it yet: {late}", err=True)


async def _up_to_date(settings: Settings, rows: UsageRows) -> None:
    """Waits for a moment until ClickHouse has what others have done by now."""
    bootstrap = settings.kafka_bootstrap
    assert bootstrap is not None
    try:
        partitions = range(await partition_count(bootstrap))
        await caught_up(rows, ledger_ends(bootstrap), partitions, LISTING_SECONDS)
    except Unavailable as late:
        click.echo(f"tollgate: what was done last may be missing: {late}", err=True)


def _progress(message: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{message}", end="", file=sys.stderr, flush=True)

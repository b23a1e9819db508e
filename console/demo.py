"""`tollgate demo`: the main job on real traces, end to end, under a tenant of its own, with a readable summary and an
invoice at the end."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import msgspec

from console import demo_invoice
from console.running import deployment
from ingest.accept import Record
from ingest.publish import Publisher
from ingest.traces import CARRIED, from_trace
from invoicing.evidence import gather
from schemas.catalog import parse
from schemas.clickhouse import connect
from schemas.commands import SOURCE
from schemas.period import format_time
from schemas.settings import Settings
from schemas.topics import ACCOUNT_EVENTS, USAGE_EVENTS
from streams import catalogue
from streams.ledger import read as read_ledger

CATALOGUE: Final = Path(__file__).parent / "demo_catalog.yaml"
CUSTOMERS: Final = 200
SEED: Final = 1
RESENT_EVERY: Final = 100
"""Every so-manieth event is sent a second time, as a producer does that saw no answer."""

GRANT: Final = "1000.00"
VISIBLE_SECONDS: Final = 120.0
DEAREST: Final = 5


class Sent(NamedTuple):
    """What the demo publishes."""

    usage: list[Record]
    accounts: list[Record]

    def __len__(self) -> int:
        return len(self.usage) + len(self.accounts)


@click.command()
def demo() -> int:
    """Rate the real traces end to end; show what was metered, priced, charged and invoiced."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    settings = Settings.from_environment()
    tenant = f"demo-{secrets.token_hex(4)}"
    now = time.time_ns() // 1_000

    def apply_catalogue(ready: Settings) -> None:
        assert ready.kafka_bootstrap is not None
        version = asyncio.run(catalogue.apply(ready.kafka_bootstrap, parse(CATALOGUE.read_bytes()), tenant, now))
        _say(f"catalogue: version {version} for tenant {tenant}")

    with deployment(settings, _say, apply_catalogue) as ready:
        return asyncio.run(_run(ready, tenant, now))


async def _run(settings: Settings, tenant: str, now: int) -> int:
    bootstrap, url = settings.kafka_bootstrap, settings.clickhouse_url
    assert bootstrap is not None
    assert url is not None
    sent = _events(tenant, now)
    await demo_invoice.introduce(settings, tenant)
    begun = time.monotonic()
    async with Publisher(bootstrap) as publisher:
        await publisher.publish(sent.accounts)
        await publisher.publish(sent.usage)
    _say(f"sent {len(sent):,} records in {time.monotonic() - begun:.1f} s")
    database = _Database(url, tenant)
    await _await_rows(database, len(sent))
    took = time.monotonic() - begun
    _show_usage(database)
    _show_dearest(database)
    await _follow_one(database, bootstrap)
    print(f"\n{len(sent):,} records from Kafka to rows in ClickHouse in {took:.1f} s: {len(sent) / took:,.0f} a second")
    outcomes = database.outcomes()
    different = await _invoice(settings, database, tenant)
    equations = await gather(settings)
    wrong = [equation for equation in equations if equation.difference]
    print(
        f"check: sent={len(sent)} "
        + " ".join(f"{name}={outcomes.get(name, 0)}" for name in ("rated", "duplicate", "ignored", "dead_letter"))
        + f" ({len(equations)} equations of `tollgate reconcile`, {len(wrong)} do not hold)"
    )
    for equation in wrong:
        print(f"  {equation.document()}")
    return 1 if wrong or different or len(sent) != sum(outcomes.values()) else 0


async def _invoice(settings: Settings, database: _Database, tenant: str) -> bool:
    """One customer's month as a final invoice, as text and PDF; whether any of its sums is not the ledger's."""
    body, days = await demo_invoice.bill(settings, tenant)
    path = await asyncio.to_thread(demo_invoice.write, settings, body, days)
    print(f"\nthe invoice of {demo_invoice.CUSTOMER} for {demo_invoice.MONTH}\n\n{demo_invoice.shown(body)}")
    sums = demo_invoice.checks(database, body)
    for one in sums:
        told = "equal" if one.invoice == one.ledger else "DIFFERENT"
        print(
            f"  {one.name:<7} of the invoice {_plain(one.invoice)} USD, of the ledger {_plain(one.ledger)} USD: {told}"
        )
    print(f"pdf: {path}\n")
    return any(one.invoice != one.ledger for one in sums)


def _events(tenant: str, now: int) -> Sent:
    """Both traces; a credit for each who pays in advance; some sent twice, and three that no one can charge."""
    usage: list[Record] = []
    customers: dict[str, None] = {}
    for name, path in CARRIED.items():
        with path.open(encoding="utf-8", newline="") as lines:
            made = from_trace(name, lines, CUSTOMERS, SEED, tenant)
        for place, value in enumerate(made.events):
            subject = msgspec.json.decode(value)["subject"]
            customers[subject] = None
            record = Record(USAGE_EVENTS, subject.encode(), value)
            usage += [record, record] if place % RESENT_EVERY == 0 else [record]
    first = next(iter(customers))
    usage += [
        _record(USAGE_EVENTS, tenant, first, "session.tokens_used", f"broken-{number}", now, data)
        for number, data in enumerate(
            (
                {"session_id": "s", "model": "gpt-4o", "input_tokens": -5, "output_tokens": 1},
                {"session_id": "s", "model": "gpt-4o", "input_tokens": "many", "output_tokens": 1},
                {"session_id": "s", "model": "gpt-4o", "input_tokens": 0, "output_tokens": 0},
            )
        )
    ]
    accounts = [
        _record(
            ACCOUNT_EVENTS,
            tenant,
            customer,
            "credit.granted",
            f"welcome-{customer}",
            now,
            {
                "user_id": customer,
                "credit_id": f"welcome-{customer}",
                "amount": GRANT,
                "currency": "USD",
            },
        )
        for customer in customers
        if customer != demo_invoice.CUSTOMER
    ]
    return Sent(usage, accounts)


def _record(topic: str, tenant: str, customer: str, kind: str, event_id: str, now: int, data: dict[str, Any]) -> Record:
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": "demo",
        "type": kind,
        "subject": customer,
        "tenantid": tenant,
        "time": format_time(now),
        "data": data,
    }
    return Record(topic, customer.encode(), msgspec.json.encode(event))


class _Database:
    """What the demo asks ClickHouse, about its tenant alone."""

    def __init__(self, url: str, tenant: str) -> None:
        self._client = connect(url)
        self._tenant = tenant

    def rows(self, query: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Rows of a query, in which {tenant:String} is the demo's."""
        given = {"tenant": self._tenant, **parameters}
        found: Sequence[Sequence[Any]] = self._client.query(query, parameters=given).result_rows
        return found

    def outcomes(self) -> dict[str, int]:
        """Records by outcome; of what was sent, not of the commands that invoices are made with."""
        found = self.rows(
            "SELECT outcome, count() FROM tollgate.event_outcomes "
            "WHERE tenant = {tenant:String} AND source != {ours:String} GROUP BY outcome",
            ours=SOURCE,
        )
        return {str(outcome): int(count) for outcome, count in found}


async def _await_rows(database: _Database, expected: int) -> None:
    deadline = time.monotonic() + VISIBLE_SECONDS
    while (seen := sum((await asyncio.to_thread(database.outcomes)).values())) < expected:
        if time.monotonic() > deadline:
            raise click.ClickException(f"only {seen} of {expected} records are visible after {VISIBLE_SECONDS:.0f} s")
        if sys.stderr.isatty():
            print(f"\r{seen:,} of {expected:,} records rated and visible", end="", file=sys.stderr, flush=True)
        await asyncio.sleep(0.2)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)


def _show_usage(database: _Database) -> None:
    rows = database.rows(
        """
        SELECT
            if(dimensions['model'] != '', dimensions['model'], dimensions['device_type']) AS what,
            meter,
            count() AS events,
            sum(quantity) AS quantity,
            sum(amount) AS amount
        FROM tollgate.rated_usage
        WHERE tenant = {tenant:String}
        GROUP BY what, meter
        ORDER BY meter, what
        """
    )
    _table(
        ("model or device", "meter", "events", "quantity", "amount USD"),
        [
            (what, meter, f"{events:,}", _plain(quantity), _plain(amount))
            for what, meter, events, quantity, amount in rows
        ],
    )


def _show_dearest(database: _Database) -> None:
    rows = database.rows(
        f"""
        SELECT customer, uniqExact(source, event_id) AS events, sum(amount) AS amount
        FROM tollgate.rated_usage
        WHERE tenant = {{tenant:String}}
        GROUP BY customer
        ORDER BY amount DESC, customer
        LIMIT {DEAREST}
        """  # noqa: S608 - a number of our own
    )
    _table(
        ("dearest customers", "events", "amount USD"), [(who, f"{count:,}", _plain(sum_)) for who, count, sum_ in rows]
    )


async def _follow_one(database: _Database, bootstrap: str) -> None:
    """One event from its offset to its ledger entry, its rated rows and the balance it left."""
    ((topic, partition, offset, seq, customer, event_id),) = database.rows(
        """
        SELECT topic, partition, offset, seq, customer, event_id
        FROM tollgate.rated_usage
        WHERE tenant = {tenant:String} AND event_type = 'session.tokens_used'
        ORDER BY amount DESC, seq
        LIMIT 1
        """
    )
    print(f"\none event followed: {event_id} of {customer}")
    print(f"  record    {topic}[{partition}] offset {offset}")
    async with aclosing(read_ledger(bootstrap, partition, 0)) as records:
        async for at, record in records:
            if record.first_seq <= seq < record.next_seq:
                version = record.catalog_position
                print(f"  ledger    usage.rated[{partition}] offset {at}, entry seq {seq}, catalogue {version}")
                break
    rows = database.rows(
        """
        SELECT meter, quantity, unit_amount, amount, price_id
        FROM tollgate.rated_usage
        WHERE tenant = {tenant:String} AND partition = {partition:UInt16} AND seq = {seq:Int64}
        ORDER BY meter
        """,
        partition=partition,
        seq=seq,
    )
    for meter, quantity, unit_amount, amount, price in rows:
        print(f"  rated     {meter}: {_plain(quantity)} at {unit_amount} ({price}) = {_plain(amount)} USD")
    for kind, amount, balance in database.rows(
        """
        SELECT kind, amount, balance_after
        FROM tollgate.ledger
        WHERE tenant = {tenant:String} AND customer = {customer:String} AND seq = {seq:Int64}
        """,
        customer=customer,
        seq=seq,
    ):
        print(f"  wallet    {kind} {_plain(amount)} USD, balance after it {_plain(balance)} USD")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    texts = 2 if len(head) > 3 else 1
    print()
    for row in (head, *rows):
        cells = [
            cell.ljust(width) if column < texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _plain(value: Decimal) -> str:
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)

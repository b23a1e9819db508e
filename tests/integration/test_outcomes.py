"""Every record has its one outcome on the real parts: repeats, conflicts, broken input, aborted and astray records.

What is sent goes through `tollgate events send`, as it is. What is expected is said beside it, in plain values.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaProducer

from schemas.account import account_key, unpack_account
from schemas.ids import partition_of
from schemas.settings import Settings
from streams.accounts.redis import RedisAccounts
from tests.deployment import until
from tests.served import Served

CATALOG = """\
currency: USD
meters:
  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens, dimensions: [model]}
  - {id: clicks, event_type: usage.reported, dimensions: [site]}
  - {id: jewels, event_type: usage.reported}
  - {id: rooms, event_type: usage.reported, dimensions: [site]}
  - {id: area, event_type: map.drawn, quantity: data.width * data.height}
  - {id: core_seconds, event_type: device.released, quantity: data.duration_seconds * data.cpu_cores}
prices:
  - {id: tokens, meter: input_tokens, model: per_unit, unit_amount: "0.000001"}
  - {id: click, meter: clicks, model: per_unit, unit_amount: "0.000000001"}
  - {id: jewel, meter: jewels, model: per_unit, unit_amount: "1000000"}
  - {id: room, meter: rooms, match: {site: north}, model: per_unit, unit_amount: "1"}
  - {id: cores, meter: core_seconds, model: per_unit, unit_amount: "0.00001"}
"""

OLDER = "2026-01-15T08:00:00Z"


class Case(NamedTuple):
    """A record that cannot be charged, and what is said of it."""

    name: str
    reason: str
    value: bytes


@pytest.fixture(scope="module")
def served(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("outcomes")
    (folder / "catalog.yaml").write_text(CATALOG)
    made = Served(services, folder / "serve.log")
    made.apply(folder / "catalog.yaml", "before-any")
    with made.serving():
        yield made


@pytest.fixture
def tenant(served: Served, tmp_path: Path) -> str:
    """A tenant of the test's own, with the catalogue."""
    name = f"outcomes-{uuid.uuid4().hex[:12]}"
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    served.apply(tmp_path / "catalog.yaml", name)
    return name


def event(tenant: str, customer: str, event_id: str, **changed: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "test",
        "type": "session.tokens_used",
        "subject": customer,
        "tenantid": tenant,
        "time": "2026-02-01T10:00:00Z",
        "data": {"session_id": "s", "model": "m", "input_tokens": 1_000, "output_tokens": 1},
        **changed,
    }


def encoded(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()


def data(**changed: Any) -> dict[str, Any]:
    return {"session_id": "s", "model": "m", "input_tokens": 1_000, "output_tokens": 1, **changed}


class Sent:
    """What was sent, customer by customer, and what must have become of it."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.expected: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
        self._booked: dict[tuple[str, str], dict[str, Any]] = {}

    def line(self, made: dict[str, Any]) -> bytes:
        """An event's bytes; the first of an identity stands, the same again counts nothing, another is refused."""
        customer, name = made["subject"], made["id"]
        stands = self._booked.setdefault((customer, name), made)
        outcome = ("rated", "") if stands is made else ("duplicate", "same_identity")
        if stands != made:
            outcome = ("dead_letter", "conflict")
        self.expected[customer].append((name, *outcome))
        return encoded(made)

    def count(self) -> int:
        return sum(map(len, self.expected.values()))

    def found(self, served: Served) -> dict[str, list[tuple[str, str, str]]]:
        """What analysts see, in the order of the records."""
        found: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for customer, *rest in served.ask(
            "SELECT customer, event_id, outcome, reason FROM tollgate.event_outcomes "
            "WHERE tenant = {tenant:String} ORDER BY topic, partition, offset",
            tenant=self.tenant,
        ):
            found[customer].append((rest[0], rest[1], rest[2]))
        return found


def test_repeats_count_once_and_conflicts_never(served: Served, tenant: str) -> None:
    """In one batch, in a later one, after the worker was killed, and a month old: a quarter of all is sent again."""
    customers = [f"repeat-{number}" for number in range(20)]
    first = [
        event(tenant, customer, f"{customer}-{number}", **({"time": OLDER} if number % 4 == 0 else {}))
        for customer in customers
        for number in range(20)
    ]
    sent = Sent(tenant)
    lines: list[bytes] = []
    for number, made in enumerate(first):
        lines.append(sent.line(made))
        if number % 12 == 0:
            lines.append(sent.line(dict(made)))
        if number % 50 == 1:
            lines.append(sent.line({**made, "data": data(input_tokens=1_001)}))
    served.send(lines)
    served.await_outcomes(tenant, sent.count())

    served.send([sent.line(dict(made)) for made in first[::12]])
    served.await_outcomes(tenant, sent.count())

    served.kill("worker")
    again = [sent.line(dict(made)) for made in first[::12]]
    again += [sent.line({**made, "time": "2026-02-01T10:00:01Z"}) for made in first[2::60]]
    again += [sent.line({**made, "time": OLDER}) for made in first[3::60]]
    served.send(again)
    assert served.await_outcomes(tenant, sent.count())["rated"] == len(first)
    assert sent.found(served) == sent.expected
    assert balances(served, tenant) == dict.fromkeys(customers, -20 * 1000 * 1000)


def balances(served: Served, tenant: str) -> dict[str, int]:
    """Nanos by customer, from the view of movements."""
    rows = served.ask(
        "SELECT customer, sum(amount), argMax(balance_after, seq) FROM tollgate.ledger "
        "WHERE tenant = {tenant:String} GROUP BY customer",
        tenant=tenant,
    )
    assert all(total == last for _, total, last in rows)
    return {customer: int(total.scaleb(9)) for customer, total, _ in rows}


def broken(tenant: str, customer: str, mark: str) -> list[Case]:
    """Kinds of broken input; `mark` stands in each of them, so that each is found again."""

    def one(name: str, reason: str, **changed: Any) -> Case:
        return Case(name, reason, encoded({**event(tenant, customer, f"{mark}-{name}"), **changed}))

    def tokens(name: str, reason: str, **changed: Any) -> Case:
        return one(name, reason, data=data(**changed))

    def raw(name: str, reason: str, old: str, new: str) -> Case:
        text = encoded(event(tenant, customer, f"{mark}-{name}")).decode()
        assert old in text
        return Case(name, reason, text.replace(old, new).encode("utf-8", "surrogateescape"))

    def reported(name: str, reason: str, **fields: Any) -> Case:
        return one(name, reason, type="usage.reported", data=fields)

    def released(name: str, reason: str, **changed: Any) -> Case:
        times = {"allocated_at": "2026-02-01T10:00:00Z", "released_at": "2026-02-01T11:00:00Z"}
        sizes = {"cpu_cores": 1, "memory_mb": 1, "storage_mb": 0}
        names = {"device_id": "d", "allocation_id": f"{mark}-{name}"}
        return one(name, reason, type="device.released", data={**names, **times, **sizes, **changed})

    def credit(name: str, reason: str, **changed: Any) -> Case:
        fields = {"credit_id": f"{mark}-{name}", "amount": "1", "currency": "USD", **changed}
        return one(name, reason, type="credit.granted", data=fields)

    whole = encoded(event(tenant, customer, f"{mark}-whole"))
    return [
        Case("not JSON", "not_json", f"{mark} is no JSON".encode()),
        Case("cut short", "not_json", encoded(event(tenant, customer, f"{mark}-cut"))[:-7]),
        Case("an array", "not_json", b"[" + whole + b"]"),
        Case("two objects", "not_json", whole + whole),
        Case("a number", "not_json", f'"{mark} is a text"'.encode()),
        raw("bad UTF-8", "bad_encoding", '"model": "m"', '"model": "\udcff"'),
        raw("NaN", "not_json", '"input_tokens": 1000', '"input_tokens": NaN'),
        one("deep", "too_deep", data=data(extra=json.loads("[" * 40 + "]" * 40))),
        one("a megabyte", "too_large", data=data(extra="x" * 1_000_000)),
        tokens("text for a count", "wrong_type", input_tokens="many"),
        tokens("a fraction", "wrong_type", input_tokens=1.5),
        tokens("true for a count", "wrong_type", input_tokens=True),
        tokens("negative", "out_of_range", input_tokens=-1),
        tokens("huge", "out_of_range", input_tokens=10**15 + 1),
        tokens("more than huge", "out_of_range", input_tokens=10**40),
        tokens("cached beyond input", "inconsistent", cached_input_tokens=1_001),
        tokens("an id of 201 letters", "out_of_range", session_id="s" * 201),
        one("no session", "missing_field", data={"model": "m", "input_tokens": 1, "output_tokens": 1}),
        one("no data", "missing_field", data=None),
        one("data is a list", "wrong_type", data=[1]),
        Case("no source", "missing_field", whole.replace(b'"source": "test", ', b"")),
        one("nobody", "no_customer", subject=None),
        one("unknown type", "unknown_type", type="weather.changed"),
        one("another major", "unknown_version", dataschema="https://x/session.tokens_used/2"),
        one("no time", "bad_time", time="yesterday"),
        one("before 1970", "bad_time", time="1969-12-31T23:59:59Z"),
        one("far future", "future", time="2999-01-01T00:00:00Z"),
        released("an end before its begin", "bad_time", released_at="2026-02-01T09:00:00Z"),
        released("another duration", "inconsistent", duration_seconds=10),
        reported("unknown meter", "no_meter", meter="nothing"),
        reported("no price", "no_price", meter="rooms", site="south", quantity=2),
        reported("beyond money", "amount_overflow", meter="jewels", quantity=10**12),
        one("a field that the meter needs", "missing_field", type="map.drawn", data={"width": 2}),
        credit("ten places", "wrong_type", amount="0.0000000001"),
        credit("no money", "wrong_type", amount="much"),
    ]


def test_broken_input_is_kept_with_its_reason_and_holds_nothing_up(served: Served, tenant: str) -> None:
    """Original bytes, a reason from the closed list, a readable detail; what follows in every partition is rated."""
    mark = f"mark-{uuid.uuid4().hex}"  # a letter first: bare hex may begin like a number, such as 5e700
    partitions = served.settings.partitions
    homes = {partition_of(f"home-{number}", partitions): f"home-{number}" for number in range(40 * partitions)}
    assert len(homes) == partitions
    cases = broken(tenant, homes[0], mark)
    served.send(
        [case.value for case in cases] + [encoded(event(tenant, home, f"good-{home}")) for home in homes.values()]
    )

    def letters() -> Sequence[Sequence[Any]]:
        return served.ask(
            """
            SELECT hex(original), reason, detail, topic, partition, offset
            FROM tollgate.dead_letters
            WHERE position(original, {mark:String}) > 0
            """,
            mark=mark,
        )

    await_true(lambda: len(letters()) >= len(cases), served)
    await_true(lambda: served.outcomes(tenant).get("rated", 0) == len(homes), served)
    found = {bytes.fromhex(row[0]): row for row in letters()}
    assert len(letters()) == len(cases)
    assert {case.name: found[case.value][1] for case in cases} == {case.name: case.reason for case in cases}
    for case in cases:
        _, reason, detail, topic, partition, offset = found[case.value]
        assert 10 < len(detail) < 1_000, case.name
        decided = served.ask(
            "SELECT outcome, reason FROM tollgate.event_outcomes "
            "WHERE topic = {topic:String} AND partition = {partition:UInt16} AND offset = {offset:Int64}",
            topic=topic,
            partition=partition,
            offset=offset,
        )
        assert [tuple(row) for row in decided] == [("dead_letter", reason)], case.name


def await_true(condition: Callable[[], object], served: Served) -> None:
    try:
        until(condition, 60)
    except AssertionError:
        print(served.tail())
        raise


async def produce(settings: Settings, records: Sequence[tuple[int, bytes | None]], *, commit: bool) -> None:
    """Writes records into given partitions of usage.events in one transaction."""
    async with AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap, transactional_id=f"test-{uuid.uuid4().hex}"
    ) as producer:
        await producer.begin_transaction()
        for partition, value in records:
            await producer.send_and_wait("usage.events", value, key=b"test", partition=partition)
        if commit:
            await producer.commit_transaction()
        else:
            await producer.abort_transaction()


def test_an_aborted_transaction_charges_nothing(served: Served, tenant: str) -> None:
    """What its producer took back was never there; the same events committed afterwards are charged."""
    home = partition_of("taker", served.settings.partitions)
    events = [(home, encoded(event(tenant, "taker", f"e{number}"))) for number in range(50)]
    asyncio.run(produce(served.settings, events, commit=False))
    asyncio.run(produce(served.settings, events[:10], commit=True))
    assert served.await_outcomes(tenant, 10) == {"rated": 10}
    asyncio.run(produce(served.settings, events, commit=False))
    asyncio.run(produce(served.settings, events[:20], commit=True))
    assert served.await_outcomes(tenant, 30) == {"rated": 20, "duplicate": 10}
    assert balances(served, tenant) == {"taker": -20 * 1_000_000}


def test_a_record_in_a_wrong_partition_is_sent_on_to_its_own(served: Served, tenant: str) -> None:
    """Where it lay it is `ignored`, at home it is charged; a record without a value is a dead letter where it lies."""
    partitions = served.settings.partitions
    home = partition_of("astray", partitions)
    astray = (home + 1) % partitions
    asyncio.run(
        produce(served.settings, [(astray, encoded(event(tenant, "astray", "e"))), (astray, None)], commit=True)
    )
    assert served.await_outcomes(tenant, 2) == {"ignored": 1, "rated": 1}
    rows = served.ask(
        "SELECT outcome, reason, partition FROM tollgate.event_outcomes "
        "WHERE tenant = {tenant:String} ORDER BY outcome",
        tenant=tenant,
    )
    assert [tuple(row) for row in rows] == [("ignored", "rerouted", astray), ("rated", "", home)]
    assert balances(served, tenant) == {"astray": -1_000_000}


def test_balances_around_two_to_the_53rd_are_exact(served: Served, tenant: str) -> None:
    """Where doubles begin to lie: a nano below, at and above, before and after a charge of one nano."""
    wanted = {f"rich{by:+d}": 2**53 + by for by in (-2, -1, 0, 1, 2)}
    lines = []
    for customer, nanos in wanted.items():
        amount = f"{nanos // 10**9}.{nanos % 10**9:09d}"
        fields = {"credit_id": "c", "amount": amount, "currency": "USD"}
        lines.append(encoded(event(tenant, customer, f"{customer}-grant", type="credit.granted", data=fields)))
    served.send(lines)
    served.await_outcomes(tenant, len(lines))
    assert balances(served, tenant) == wanted
    served.send(
        [
            encoded(event(tenant, customer, f"{customer}-click", type="usage.reported", data={"meter": "clicks"}))
            for customer in wanted
        ]
    )
    served.await_outcomes(tenant, 2 * len(lines))
    expected = {customer: nanos - 1 for customer, nanos in wanted.items()}
    assert balances(served, tenant) == expected
    assert accounts(served, tenant, expected) == expected


def accounts(served: Served, tenant: str, customers: Iterable[str]) -> dict[str, int | None]:
    """Balances as Redis has them."""

    async def read() -> dict[str, int | None]:
        assert served.settings.redis_url is not None
        store = RedisAccounts(served.settings.redis_url)
        try:
            found: dict[str, int | None] = {}
            for customer in customers:
                home = partition_of(customer, served.settings.partitions)
                _, packed = await store.peek(home, account_key(tenant, customer))
                found[customer] = unpack_account(packed).balance if packed is not None else None
            return found
        finally:
            await store.close()

    return asyncio.run(read())

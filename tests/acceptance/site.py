"""A deployment as strangers know it: its command line, its HTTP address, its Kafka and its ClickHouse; nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.acceptance.documented import Documented
from tests.deployment import Tollgate, halted, pause

PATIENCE_S: Final = 60
STRIPE_SECRET: Final = "whsec_acceptance"
PROBLEM: Final = "application/problem+json"

Answer = TypeVar("Answer")

MANY: Final = httpx.Limits(max_connections=None, max_keepalive_connections=None)
"""For a client that many threads use: one that keeps fewer connections than there are may close one that was just
handed to another thread (httpcore 1.0: Bad file descriptor)."""

_numbers = itertools.count(1)


def fresh(word: str = "c") -> str:
    """An id that nobody had before."""
    return f"{word}-{uuid.uuid4().hex[:10]}"


def until(reached: Callable[[], Answer], what: str = "", bound_s: float = PATIENCE_S) -> Answer:
    """What `reached` answers once that is true."""
    begun = time.monotonic()
    while not (answer := reached()):
        assert time.monotonic() < begun + bound_s, f"{what or reached} did not come to it in {bound_s} s: {answer!r}"
        pause(begun)
    return answer


def plain(amount: str) -> str:
    """A Decimal of ClickHouse as people write it."""
    return amount.rstrip("0").rstrip(".") if "." in amount else amount


def is_problem(answer: httpx.Response, status: int, reason: str | None = None) -> bool:
    """Whether an answer is RFC 9457 problem details of a status, with the members that the contract names."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text}"
    assert answer.headers["content-type"].split(";")[0] == PROBLEM, answer.headers
    body = answer.json()
    assert body["status"] == status, body
    for member in ("type", "title", "detail"):
        assert isinstance(body[member], str), body
        assert body[member], body
    for fault in body.get("errors", ()):
        assert fault.keys() >= {"pointer", "reason"}, body
    if reason is not None:
        assert body["type"].rpartition(":")[2] == reason, body
    return True


@dataclass(frozen=True)
class Record:
    """What to put on a topic as it stands."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    timestamp_ms: int | None = None


@dataclass
class Site:
    """One deployment."""

    tollgate: Tollgate
    url: str
    kafka: str
    clickhouse: str
    log: Any
    ready_before_catalogue: httpx.Response | None = None
    issued_before_serve: str = ""
    printed_by_up: str = ""
    _tenants: list[Tenant] = field(default_factory=list)
    _documented: Documented | None = None
    """What every answer to a tenant is held to."""

    def sql(self, query: str, **parameters: object) -> list[dict[str, Any]]:
        """Rows of a plain `POST /` query, each value as ClickHouse writes it in JSON (Decimals as text)."""
        place = urlsplit(self.clickhouse)
        named = {f"param_{name}": str(value) for name, value in parameters.items()}
        named |= {"output_format_json_quote_decimals": "1", "output_format_json_quote_64bit_integers": "0"}
        answer = httpx.post(
            f"http://{place.hostname}:{place.port}/",
            params=named,
            content=f"{query} FORMAT JSONEachRow",
            auth=(place.username or "", place.password or ""),
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]

    def produce(self, records: Iterable[Record]) -> list[tuple[int, int]]:
        """Writes records as a stranger's producer would; partition and offset of each, in order."""
        return asyncio.run(_produce(self.kafka, list(records)))

    def read(self, topic: str) -> list[tuple[int, int, bytes | None, bytes | None]]:
        """All committed records of a topic now: partition, offset, key, value."""
        return asyncio.run(_read(self.kafka, topic))

    def tenant(self, word: str = "t", catalogue: str | None = None, **options: str) -> Tenant:
        """A tenant of its own with a token, and with a catalogue where one is given."""
        name = fresh(word)
        token = self.issue(name)
        if self._documented is None:
            self._documented = Documented(httpx.get(f"{self.url}/openapi.json", timeout=60).json())
        judge = self._documented.judge

        def judged(answer: httpx.Response) -> None:
            answer.read()
            judge(answer)

        client = httpx.Client(
            base_url=self.url, headers=bearer(token), timeout=30, limits=MANY, event_hooks={"response": [judged]}
        )
        made = Tenant(self, name, token, client)
        self._tenants.append(made)
        if catalogue is not None:
            made.apply(catalogue)
        return made

    @contextlib.contextmanager
    def without_jobs(self) -> Iterator[None]:
        """Nothing falls due by itself meanwhile: the scheduler stands still."""
        processes = json.loads(self.tollgate("status", "--json").stdout)["processes"]
        pid = next(int(process["pid"]) for process in processes if process["role"] == "scheduler")
        with halted(pid):
            yield

    def issue(self, tenant: str, *options: str) -> str:
        """A token, as `tollgate token issue` prints it."""
        return self.tollgate("token", "issue", "--tenant", tenant, *options).stdout.splitlines()[-1]

    def close(self) -> None:
        """Ends the tenants' connections."""
        for tenant in self._tenants:
            tenant.http.close()


@dataclass
class Tenant:
    """One tenant's view."""

    site: Site
    name: str
    token: str
    http: httpx.Client

    def apply(self, catalogue: str) -> None:
        """Makes a catalogue the tenant's own and waits until events are rated by it."""
        answer = self.http.put("/v1/catalog", content=catalogue, headers={"content-type": "application/yaml"})
        assert answer.status_code in (200, 201), answer.text

    def event(self, customer: str | None, type_: str, data: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
        """A CloudEvent of this tenant; a change to None takes the attribute away."""
        whole: dict[str, Any] = {
            "specversion": "1.0",
            "id": f"e-{next(_numbers)}-{uuid.uuid4().hex[:6]}",
            "source": "acceptance",
            "type": type_,
            "subject": customer,
            "tenantid": self.name,
            "data": dict(data),
        }
        whole |= changed
        return {name: value for name, value in whole.items() if value is not None}

    def send(self, *events: Mapping[str, Any] | bytes) -> None:
        """`tollgate events send -`."""
        lines = [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]
        self.site.tollgate.send(b"\n".join(lines) + b"\n")

    def post(self, *events: Mapping[str, Any]) -> None:
        """Events by HTTP, all accepted."""
        answer = self.http.post(
            "/v1/events",
            content=json.dumps(list(events)),
            headers={"content-type": "application/cloudevents-batch+json"},
        )
        assert answer.status_code == 202, answer.text
        assert answer.json() == {"accepted": len(events), "rejected": []}, answer.text

    def outcomes(self, ids: Sequence[str], count: int | None = None) -> dict[str, list[tuple[str, str]]]:
        """By event id the (outcome, reason) of its records in the ledger's order, once there are `count` of them."""
        wanted = len(ids) if count is None else count
        query = (
            "SELECT event_id, outcome, reason FROM tollgate.event_outcomes WHERE tenant = {tenant:String} "
            "AND event_id IN {ids:Array(String)} ORDER BY partition, seq"
        )
        quoted = "[" + ",".join("'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'" for name in ids) + "]"

        def found() -> list[dict[str, Any]]:
            rows = self.site.sql(query, tenant=self.name, ids=quoted)
            return rows if len(rows) >= wanted else []

        grouped: dict[str, list[tuple[str, str]]] = {}
        for row in until(found, f"outcomes of {ids} of {self.name}"):
            grouped.setdefault(row["event_id"], []).append((row["outcome"], row["reason"]))
        return grouped

    def rows(self, view: str, where: str = "1", **parameters: object) -> list[dict[str, Any]]:
        """Rows of a view that are this tenant's."""
        return self.site.sql(
            f"SELECT * FROM tollgate.{view} WHERE tenant = {{tenant:String}} AND ({where})",
            tenant=self.name,
            **parameters,
        )

    def settled(self, method: str, path: str, body: Any = None, key: str | None = None) -> httpx.Response:
        """A request that is asked for again, under its key, while its outcome is not known or nobody can answer."""
        headers = {"Idempotency-Key": key or fresh("key")}

        def known() -> httpx.Response | None:
            answer = self.http.request(method, path, json=body, headers=headers)
            return answer if answer.status_code not in (202, 503) else None

        return until(known, f"{method} {path}")

    def balance(self, customer: str) -> dict[str, Any]:
        """The one balance of a customer."""
        answer = self.settled("GET", f"/v1/customers/{customer}/balance")
        assert answer.status_code == 200, answer.text
        (only,) = answer.json()["balances"]
        found: dict[str, Any] = only
        return found

    def grant(self, customer: str, amount: str, **more: Any) -> dict[str, Any]:
        """A credit by HTTP, booked."""
        body = {"amount": amount, "currency": "USD", **more}
        answer = self.settled("POST", f"/v1/customers/{customer}/credits", body)
        assert answer.status_code in (200, 201), answer.text
        found: dict[str, Any] = answer.json()
        return found


def bearer(token: str) -> dict[str, str]:
    """The header that names who asks."""
    return {"Authorization": f"Bearer {token}"}


async def _produce(bootstrap: str, records: Sequence[Record]) -> list[tuple[int, int]]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=4 << 20)
    await producer.start()
    try:
        placed = []
        for record in records:
            sent = await producer.send_and_wait(
                record.topic, record.value, record.key, record.partition, record.timestamp_ms
            )
            placed.append((sent.partition, sent.offset))
        return placed
    finally:
        await producer.stop()


async def _read(bootstrap: str, topic: str) -> list[tuple[int, int, bytes | None, bytes | None]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_partition_fetch_bytes=5 << 20,
    )
    await consumer.start()
    try:
        await consumer._client.force_metadata_update()
        found = consumer.partitions_for_topic(topic) or set()
        places = [TopicPartition(topic, partition) for partition in sorted(found)]
        consumer.assign(places)
        records = []
        ends = await consumer.end_offsets(places)
        for place in places:
            consumer.seek(place, 0)
        async with asyncio.timeout(PATIENCE_S):
            for place in places:
                while await consumer.position(place) < ends[place]:
                    for batch in (await consumer.getmany(timeout_ms=200)).values():
                        records += [(one.partition, one.offset, one.key, one.value) for one in batch]
        return sorted(records, key=lambda record: record[:2])
    finally:
        await consumer.stop()

"""What runs and how far behind it is, asked of the services themselves.

Units: lag in events and in seconds since the append of the oldest record not decided yet.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from backing import probe, process, state
from backing.state import SERVICES
from schemas.errors import InvariantBroken, Unavailable
from schemas.kafka import connection
from schemas.settings import Settings
from schemas.topics import INPUTS, RATING_GROUP

Positions = Mapping[tuple[str, int], int]
"""By topic and partition, the offset below which every record is decided."""

PROCESSES_FILE: Final = "processes.json"
_LAG_TIMEOUT_S: Final = 10
_READY_TIMEOUT_S: Final = 5
_OLDEST_TIMEOUT_S: Final = 2


class ServiceStatus(msgspec.Struct, frozen=True):
    """One backing service. `url` is None if none is known; `pid` is None where the process is not ours."""

    url: str | None
    ready: bool
    pid: int | None


class Dependency(msgspec.Struct, frozen=True):
    """What an API process finds of something it leans on, as its /readyz says."""

    ready: bool
    detail: str | None = None
    breaker: str | None = None
    """`closed`, `open` or `half_open`: whether it is asked at all."""


class ProcessStatus(msgspec.Struct, frozen=True):
    """One process of Tollgate: `role` is supervisor, api, worker, sink or scheduler."""

    role: str
    pid: int
    ready: bool
    metrics: str | None = None
    """Where it shows its metrics to Prometheus."""
    dependencies: dict[str, Dependency] | None = None
    """Of the API; None where it does not say."""


class Lag(msgspec.Struct, frozen=True):
    """How far one input partition's decisions are behind its end. `seconds` is 0 where nothing waits, None where the
    oldest record that waits did not come in time."""

    topic: str
    partition: int
    events: int
    seconds: Decimal | None


class Status(msgspec.Struct, frozen=True):
    """The answer of `tollgate status --json`."""

    services: dict[str, ServiceStatus]
    processes: list[ProcessStatus]
    lag: list[Lag]


class _Readiness(msgspec.Struct):
    """What of /readyz is told here."""

    dependencies: dict[str, Dependency]


_decode_processes: Final = msgspec.json.Decoder(list[ProcessStatus]).decode
_decode_readiness: Final = msgspec.json.Decoder(_Readiness).decode


def status(settings: Settings, decided: Callable[[str], Positions] | None = None) -> Status:
    """Everything at once. A service that does not answer is not ready; it is no error.

    `decided` asks the ledger of the Kafka at a bootstrap address for the positions that `lag` speaks of.
    """
    found = services(settings)
    kafka = found["kafka"]
    behind: list[Lag] = []
    if kafka.ready and kafka.url is not None:
        try:
            bootstrap = settings.kafka_address(kafka.url)
            behind = lag(bootstrap, decided(bootstrap) if decided is not None else None)
        except Unavailable:
            # It answered a moment ago: whoever watches sees it not ready the next time.
            found["kafka"] = msgspec.structs.replace(kafka, ready=False)
    return Status(services=found, processes=seen_by_api(processes(settings)), lag=behind)


def services(settings: Settings) -> dict[str, ServiceStatus]:
    """The three services, each asked now, all at once."""
    remembered = state.read(settings.data_dir).services
    given = {"kafka": settings.kafka_bootstrap, "redis": settings.redis_url, "clickhouse": settings.clickhouse_url}

    def ask(name: str) -> ServiceStatus:
        noted = remembered.get(name)
        url = given[name] or (noted.url if noted is not None else None)
        if url is None:
            return ServiceStatus(None, False, None)
        pid = None
        if noted is not None and noted.pid is not None and noted.url == url:
            pid = noted.pid if process.is_running(noted.pid, name, settings.data_dir) else None
        asked = settings.kafka_address(url) if name == "kafka" else url
        return ServiceStatus(str(url), probe.answers(name, asked), pid)

    with ThreadPoolExecutor(len(SERVICES)) as pool:
        return dict(zip(SERVICES, pool.map(ask, SERVICES), strict=True))


def processes(settings: Settings) -> list[ProcessStatus]:
    """The processes that the supervisor noted and that still run. Errors: InvariantBroken if the file is damaged."""
    path = settings.data_dir / PROCESSES_FILE
    try:
        noted = _decode_processes(path.read_bytes())
    except FileNotFoundError:
        return []
    except msgspec.MsgspecError as error:
        raise InvariantBroken(f"{path} is damaged: {error}") from None
    return [entry for entry in noted if _is_alive(entry.pid)]


def seen_by_api(found: list[ProcessStatus]) -> list[ProcessStatus]:
    """The same processes, with what those of the API say of the stores."""
    return [
        msgspec.structs.replace(entry, dependencies=_dependencies(entry.metrics))
        if entry.role == "api" and entry.metrics is not None
        else entry
        for entry in found
    ]


def _dependencies(metrics: str) -> dict[str, Dependency] | None:
    """Of the API that shows its metrics there."""
    parts = urlsplit(metrics)
    connected = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_READY_TIMEOUT_S)
    try:
        connected.request("GET", "/readyz")
        return _decode_readiness(connected.getresponse().read()).dependencies
    except (OSError, http.client.HTTPException, msgspec.MsgspecError):
        return None
    finally:
        connected.close()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def lag(bootstrap: str, decided: Positions | None = None) -> list[Lag]:
    """How far each input partition is behind, in order of topic and partition.

    `decided` gives the next position to decide, as the ledger has it; what it lacks is taken from the offsets
    that the rating group committed, and without those from the partition's beginning. Errors: Unavailable.
    """
    return probe.complete(_lag(bootstrap, decided or {}, time.time()))


async def _lag(bootstrap: str, decided: Positions, now_s: float) -> list[Lag]:
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    admin = AIOKafkaAdminClient(**connection(bootstrap))
    consumer = AIOKafkaConsumer(
        **connection(bootstrap), isolation_level="read_committed", enable_auto_commit=False, max_poll_records=1
    )
    try:
        async with asyncio.timeout(_LAG_TIMEOUT_S):
            await admin.start()
            await consumer.start()
            described = await admin.describe_topics(list(INPUTS))
            partitions = [
                TopicPartition(entry["topic"], number)
                for entry in sorted(described, key=lambda entry: INPUTS.index(entry["topic"]))
                for number in sorted(part["partition"] for part in entry["partitions"])
            ]
            if not partitions:
                return []
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            begins = await consumer.beginning_offsets(partitions)
            committed = await admin.list_consumer_group_offsets(RATING_GROUP)
            positions = {}
            for partition in partitions:
                noted = decided.get((partition.topic, partition.partition))
                if noted is None and partition in committed:
                    noted = committed[partition].offset
                positions[partition] = max(begins[partition], noted if noted is not None else 0)
            behind = [partition for partition in partitions if positions[partition] < ends[partition]]
            oldest = await _oldest_times_ms(consumer, {partition: positions[partition] for partition in behind})
            for partition in behind:
                if partition not in oldest:
                    # Nothing came: what is left may be markers of transactions, which nobody decides about.
                    positions[partition] = await consumer.position(partition)
    except (KafkaError, OSError, TimeoutError) as error:
        raise Unavailable(f"Kafka at {bootstrap}: {str(error) or type(error).__name__}") from None
    finally:
        await consumer.stop()
        await admin.close()
    now_ms = int(now_s * 1000)
    found = []
    for partition in partitions:
        events, seconds = max(0, ends[partition] - positions[partition]), None
        if partition in oldest:
            seconds = Decimal(max(0, now_ms - oldest[partition])) / 1000
        elif not events:
            seconds = Decimal(0)
        found.append(Lag(partition.topic, partition.partition, events, seconds))
    return found


async def _oldest_times_ms(consumer: Any, positions: Mapping[Any, int]) -> dict[Any, int]:
    """The append times of the records at these positions, as far as they come within the bound."""
    found: dict[Any, int] = {}
    if not positions:
        return found
    consumer.assign(list(positions))
    for partition, position in positions.items():
        consumer.seek(partition, position)
    deadline = time.monotonic() + _OLDEST_TIMEOUT_S
    while len(found) < len(positions) and time.monotonic() < deadline:
        waiting = [partition for partition in positions if partition not in found]
        for partition, records in (await consumer.getmany(*waiting, timeout_ms=200)).items():
            if records:
                found[partition] = records[0].timestamp
                consumer.pause(partition)
    return found

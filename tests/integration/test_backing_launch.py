"""`tollgate up`, `status` and `down` on the real services, native."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from redis import Redis as RedisClient

from backing import launch, process, state, status
from backing.native import ClickHouse, Kafka, Redis
from schemas.settings import Settings
from schemas.topics import ACCOUNT_EVENTS, USAGE_EVENTS
from tests.deployment import Tollgate, settings_in, until

SERVICES: dict[str, type[Kafka | Redis | ClickHouse]] = {"kafka": Kafka, "redis": Redis, "clickhouse": ClickHouse}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tollgate]:
    """Native services of these tests' own, to kill as they like."""
    settings = settings_in(tmp_path_factory.mktemp("launch"), backend="native", partitions=3)
    try:
        Tollgate(settings)("up")
        yield Tollgate(settings)
    finally:
        launch.down(settings, purge=True)
    assert not [name for name in SERVICES if process.find(name, settings.data_dir)]


def _status(deployment: Tollgate) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(deployment("status", "--json").stdout)
    return found


def _append(bootstrap: str, value: bytes) -> int:
    async def send() -> int:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
            sent = await producer.send_and_wait(USAGE_EVENTS, value, partition=1)
            return int(sent.offset)

    return asyncio.run(send())


def _read(bootstrap: str, offset: int) -> bytes:
    async def receive() -> bytes:
        partition = TopicPartition(USAGE_EVENTS, 1)
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
            consumer.assign([partition])
            consumer.seek(partition, offset)
            return bytes((await consumer.getone(partition)).value)

    return asyncio.run(receive())


def test_status_is_as_promised(deployment: Tollgate) -> None:
    """Each service has its address, answers, and has a pid that inherits the data dir."""
    found = _status(deployment)
    assert set(found) == {"services", "processes", "lag"}
    assert set(found["services"]) == set(SERVICES)
    for service in found["services"].values():
        assert set(service) == {"url", "ready", "pid"}
        assert service["ready"] is True
        variables = Path(f"/proc/{service['pid']}/environ").read_bytes().split(b"\0")
        assert f"TOLLGATE_DATA_DIR={deployment.settings.data_dir}".encode() in variables
    assert found["processes"] == []
    assert [(lag["topic"], lag["partition"]) for lag in found["lag"]] == [
        (topic, partition) for topic in ("usage.events", "account.events") for partition in range(3)
    ]


def test_the_broker_maps_the_archive_of_its_classes(deployment: Tollgate) -> None:
    """Which another launcher may have been making when it started; a broker that starts once it is there has it."""
    kafka = Kafka(deployment.settings)
    kafka.stop()
    until(
        lambda: any(option.startswith("-XX:SharedArchiveFile=") for option in kafka._java(Path("/log4j2.properties")))
    )
    kafka.start()
    archive = next(option for option in kafka._java(Path("/log4j2.properties")) if "SharedArchiveFile" in option)
    assert archive.partition("=")[2] in Path(f"/proc/{kafka.pid}/maps").read_text()


def test_a_second_up_attaches(deployment: Tollgate) -> None:
    """It prints the same addresses and starts no process."""
    before = _status(deployment)["services"]
    printed = deployment("up").stdout.split()
    assert _status(deployment)["services"] == before
    assert [service["url"] for service in before.values()] == printed[1::2]


def test_racing_ups_agree(deployment: Tollgate) -> None:
    """Of several at once none fails, and there is one of each service."""
    deployment("down")
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: deployment("up").stdout, range(3)))
    assert len(set(answers)) == 1
    assert [len(process.find(name, deployment.settings.data_dir)) for name in SERVICES] == [1, 1, 1]


def test_lag_counts_what_is_not_decided(deployment: Tollgate) -> None:
    """An event that no worker has decided is one event behind, since its append."""

    def behind() -> dict[str, Any]:
        (found,) = [lag for lag in _status(deployment)["lag"] if (lag["topic"], lag["partition"]) == (USAGE_EVENTS, 1)]
        return dict(found)

    before = behind()["events"]
    _append(_status(deployment)["services"]["kafka"]["url"], b"{}")
    after = behind()
    assert after["events"] == before + 1
    assert after["seconds"] >= 0


def test_what_is_left_of_a_transaction_is_no_lag(deployment: Tollgate) -> None:
    """The marker that ends a producer's transaction is behind the last record, and waits for nobody."""
    bootstrap = _status(deployment)["services"]["kafka"]["url"]

    async def send(topic: str) -> int:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="marker")
        await producer.start()
        try:
            async with producer.transaction():
                sent = await producer.send_and_wait(topic, b"{}", partition=0)
            return int(sent.offset)
        finally:
            await producer.stop()

    offset = asyncio.run(send(ACCOUNT_EVENTS))
    (behind,) = [
        lag
        for lag in status.lag(bootstrap, {(ACCOUNT_EVENTS, 0): offset + 1})
        if (lag.topic, lag.partition) == (ACCOUNT_EVENTS, 0)
    ]
    assert (behind.events, behind.seconds) == (0, 0)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_up_brings_back_the_one_that_was_killed(deployment: Tollgate, name: str) -> None:
    """After kill -9 of one service `up` starts it at its address with its data, and leaves the others alone."""
    before = _status(deployment)["services"]
    kafka_url, redis_url = before["kafka"]["url"], before["redis"]["url"]
    offset = _append(kafka_url, name.encode())
    redis = RedisClient.from_url(redis_url)
    redis.set(f"kept:{name}", "1")
    # What was written is on disk once Redis says so; the second that everysec may lose is not this test's question.
    redis.bgrewriteaof()

    def is_rewritten() -> bool:
        said = redis.info("persistence")
        return not said["aof_rewrite_in_progress"] and not said["aof_rewrite_scheduled"]

    until(is_rewritten)
    rows = clickhouse_connect.get_client(dsn=before["clickhouse"]["url"])
    rows.command(f"CREATE TABLE default.kept_{name} (n Int64) ENGINE = MergeTree ORDER BY n")
    rows.command(f"INSERT INTO default.kept_{name} VALUES (9007199254740993)")

    os.kill(before[name]["pid"], signal.SIGKILL)
    deployment("up")

    after = _status(deployment)["services"]
    assert all(after[other] == before[other] for other in SERVICES if other != name)
    assert after[name]["url"] == before[name]["url"]
    assert after[name]["pid"] != before[name]["pid"]
    assert _read(kafka_url, offset) == name.encode()
    assert RedisClient.from_url(redis_url).get(f"kept:{name}") == b"1"
    again = clickhouse_connect.get_client(dsn=after["clickhouse"]["url"])
    assert again.command(f"SELECT n FROM default.kept_{name}") == 9007199254740993


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_can_be_stopped_and_started_alone(deployment: Tollgate, name: str) -> None:
    """Fault tests stop and restart one; it comes back to its address."""
    settings = launch.attach(deployment.settings)
    service = SERVICES[name](settings)
    url = service.url
    service.stop()
    assert process.find(name, settings.data_dir) == []
    service.start()
    first = service.pid
    service.restart()
    second = service.pid
    assert second is not None
    assert second != first
    assert service.url == url


def test_a_service_whose_launcher_forgot_it_is_found(deployment: Tollgate) -> None:
    """Without services.json nothing is started twice, and `down` still ends everything."""
    (deployment.settings.data_dir / state.FILE).unlink()
    deployment("up")
    assert [len(process.find(name, deployment.settings.data_dir)) for name in SERVICES] == [1, 1, 1]
    (deployment.settings.data_dir / state.FILE).unlink()
    deployment("down")
    assert [process.find(name, deployment.settings.data_dir) for name in SERVICES] == [[], [], []]


def test_two_data_dirs_are_two_deployments(deployment: Tollgate, tmp_path: Path) -> None:
    """Both run at once; purging one leaves nothing of it and the other untouched."""
    deployment("up")
    ours = _status(deployment)["services"]
    other = Tollgate(settings_in(tmp_path / "other", backend="native"))
    try:
        other("up")
        theirs = _status(other)["services"]
        assert all(service["ready"] for service in theirs.values())
        assert not {service["url"] for service in ours.values()} & {service["url"] for service in theirs.values()}
    finally:
        other("down", "--purge")
    assert not other.settings.data_dir.exists()
    assert [process.find(name, other.settings.data_dir) for name in SERVICES] == [[], [], []]
    assert _status(deployment)["services"] == ours


def test_down_leaves_data_and_up_finds_it(deployment: Tollgate) -> None:
    """After `down` nothing runs; the next `up` answers at the same addresses with the same data."""
    deployment("up")
    before = _status(deployment)["services"]
    offset = _append(before["kafka"]["url"], b"kept")
    deployment("down")
    assert [process.find(name, deployment.settings.data_dir) for name in SERVICES] == [[], [], []]
    assert not any(service["ready"] for service in _status(deployment)["services"].values())
    deployment("up")
    assert _read(before["kafka"]["url"], offset) == b"kept"
    after = _status(deployment)["services"]
    assert [service["url"] for service in after.values()] == [service["url"] for service in before.values()]


def test_given_services_are_external(deployment: Tollgate, tmp_path: Path) -> None:
    """With all URLs given `up` starts nothing, makes them ready and remembers them; `down` leaves them running."""
    deployment("up")
    found = _status(deployment)["services"]
    given = settings_in(
        tmp_path / "external",
        kafka_bootstrap=found["kafka"]["url"],
        redis_url=found["redis"]["url"],
        clickhouse_url=found["clickhouse"]["url"],
        partitions=3,
    )
    outside = Tollgate(given)
    outside("up")
    assert [service["pid"] for service in _status(outside)["services"].values()] == [None, None, None]
    assert launch.attach(settings_in(given.data_dir)).redis_url == given.redis_url
    outside("down", "--purge")
    assert _status(deployment)["services"] == found


def test_another_number_of_partitions_is_refused(deployment: Tollgate) -> None:
    """Customers would change partitions: one line says which variable to set."""
    deployment("up")
    other = Tollgate(Settings.from_environment({}, data_dir=deployment.settings.data_dir, partitions=5))
    refused = other("up", check=False)
    assert refused.returncode == 2
    assert "set TOLLGATE_PARTITIONS=3" in refused.stderr.splitlines()[-1]


def test_an_interrupted_up_is_gone_on_with(tmp_path: Path) -> None:
    """Ctrl-C in the middle loses nothing: the next `up` ends what it began, and `down` leaves no process."""
    deployment = Tollgate(settings_in(tmp_path / "data", backend="native"))
    try:
        begun = subprocess.Popen(
            deployment.command("up"), env=deployment.environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        until(lambda: process.find("redis", deployment.settings.data_dir))
        begun.send_signal(signal.SIGINT)
        _, said = begun.communicate()
        assert begun.returncode == 130
        assert b"Traceback" not in said
        deployment("up")
        assert [len(process.find(name, deployment.settings.data_dir)) for name in SERVICES] == [1, 1, 1]
    finally:
        deployment("down", "--purge")
    assert [process.find(name, deployment.settings.data_dir) for name in SERVICES] == [[], [], []]

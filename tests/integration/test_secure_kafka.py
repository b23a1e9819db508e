"""A broker that asks for TLS and a password: every client of ours meets it, and none without them."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from backing import launch, ports
from backing.kafka import Kafka
from backing.service import silent
from backing.state import ServiceState
from ingest.accept import Record
from ingest.publish import Bounds, Publisher
from schemas.errors import InvalidInput, Unavailable
from schemas.ledger import genesis
from schemas.ledger_packed import encode_record
from schemas.settings import Settings
from schemas.topics import USAGE_EVENTS
from streams.lag import LagWatch
from streams.ledger import partition_count
from streams.transaction import PartitionWriter
from streams.worker import build_app
from tests.deployment import Tollgate, settings_in

USER, PASSWORD = "tollgate", "hush-hush"


class SecureKafka(Kafka):
    """The native broker with a listener that has TLS and SASL, and none beside it but the controller's."""

    certificates: Path

    def prepare(self, noted: ServiceState) -> list[str]:
        command = super().prepare(noted)
        properties = self.folder / "server.properties"
        text = properties.read_text()
        text = text.replace("PLAINTEXT://", "SASL_SSL://")
        text = text.replace("inter.broker.listener.name=PLAINTEXT", "inter.broker.listener.name=SASL_SSL")
        text = text.replace("protocol.map=PLAINTEXT:PLAINTEXT", "protocol.map=SASL_SSL:SASL_SSL")
        login = f'org.apache.kafka.common.security.plain.PlainLoginModule required username="{USER}" '
        login += f'password="{PASSWORD}" user_{USER}="{PASSWORD}";'
        text += f"""
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config={login}
ssl.keystore.type=PEM
ssl.keystore.location={self.certificates}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={self.certificates}/ca.pem
"""
        properties.write_text(text)
        return command


def make_certificates(folder: Path) -> None:
    """An authority, and a broker's certificate of it for 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make certificates with")
    folder.mkdir()

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test authority"),
        *("-keyout", "ca.key", "-out", "ca.pem", "-addext", "keyUsage=critical,keyCertSign"),
    )
    openssl(
        "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=broker", "-keyout", "broker.key", "-out", "broker.csr"
    )
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(
        *("x509", "-req", "-in", "broker.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"),
        *("-extfile", "names", "-out", "broker.crt"),
    )
    (folder / "broker.pem").write_text((folder / "broker.key").read_text() + (folder / "broker.crt").read_text())


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a broker with TLS and SASL, its topics made by our own launcher."""
    data_dir = tmp_path_factory.mktemp("secure")
    certificates = data_dir / "certificates"
    make_certificates(certificates)
    port = ports.choose([])
    settings = Settings.from_environment(
        {},
        data_dir=data_dir,
        kafka_bootstrap=f"127.0.0.1:{port}",
        redis_url="redis://127.0.0.1:1",
        clickhouse_url="http://127.0.0.1:1",
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_username=USER,
        kafka_sasl_password=PASSWORD,
        kafka_ssl_cafile=certificates / "ca.pem",
        partitions=4,
    )
    # In a data dir of its own: to the one above it is somebody else's.
    broker = SecureKafka(settings_in(data_dir / "broker", kafka_bootstrap=f"127.0.0.1:{port}"))
    broker.certificates = certificates
    broker.fetch()
    broker.begin()
    try:
        yield launch.up(settings, backend="external", only=["kafka"])
    finally:
        broker.kill()
        for folder in (data_dir, data_dir / "broker"):
            launch.down(settings_in(folder), report=silent)


async def test_every_client_of_ours_meets_it(secure: Settings) -> None:
    """Publisher, transactional writer, reader of the ledger, lag: each on a connection of its own."""
    bootstrap = str.__str__(secure.kafka_bootstrap or "")
    assert secure.kafka_bootstrap is not None
    assert bootstrap == secure.kafka_bootstrap
    assert await partition_count(secure.kafka_bootstrap) == 4
    async with Publisher(secure.kafka_bootstrap) as publisher:
        await publisher.publish([Record(USAGE_EVENTS, b"c", b"{}")])
    writer = PartitionWriter(secure.kafka_bootstrap, 0)
    await writer.start()
    assert len(await writer.commit([encode_record(genesis(0, 1))])) == 1
    await writer.stop()
    watch = LagWatch(secure.kafka_bootstrap)
    lags = await watch.measure({(USAGE_EVENTS, number): 0 for number in range(4)}, 2_000_000_000_000_000)
    assert sum(lag.events for lag in lags) == 1
    await watch.close()


async def test_faust_is_told_as_well(secure: Settings, tmp_path: Path) -> None:
    """The worker's own consumer joins its group there."""
    assert secure.kafka_bootstrap is not None
    app = build_app(secure.kafka_bootstrap, tmp_path)
    topic = app.topic(USAGE_EVENTS)
    seen: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    @app.agent(topic)
    async def read(stream: object) -> None:
        async for _ in stream:  # type: ignore[attr-defined]
            if not seen.done():
                seen.set_result(True)

    app.finalize()
    starting = asyncio.create_task(app.maybe_start())
    async with asyncio.timeout(60):
        assert await seen
    await app.stop()
    await starting


async def test_whoever_lacks_the_password_or_the_authority_is_not_let_in(secure: Settings) -> None:
    """Unavailable, within the client's time-out."""
    for changed in ({"kafka_sasl_password": "wrong"}, {"kafka_ssl_cafile": None}):
        other = dataclasses.replace(secure, **changed)
        with pytest.raises(Unavailable):
            async with Publisher(str_of(other), bounds=Bounds(timeout_s=3)) as publisher:
                await publisher.publish([Record(USAGE_EVENTS, b"c", b"{}")])


def str_of(settings: Settings) -> str:
    assert settings.kafka_bootstrap is not None
    return settings.kafka_bootstrap


def test_the_commands_use_it_too(secure: Settings) -> None:
    """As environment: `events send` and `status` of another process."""
    tollgate = Tollgate(secure)
    tollgate(
        "events", "send", "-", stdin='{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "c"}'
    )
    shown = tollgate("status", "--json").stdout
    assert '"ready":true' in shown
    assert PASSWORD not in shown


def test_a_native_kafka_has_no_such_listener(tmp_path: Path) -> None:
    """It says so, rather than fail to connect."""
    settings = Settings.from_environment(
        {},
        data_dir=tmp_path,
        kafka_security_protocol="SSL",
    )
    with pytest.raises(InvalidInput, match="TOLLGATE_KAFKA_SECURITY_PROTOCOL"):
        launch.up(settings, backend="native")

"""Apache Kafka, the real one: one node in KRaft mode on the Java that `backing.java` finds.

Its data, the cluster's id among them, lies in the data dir and survives kill -9. Settings below are either what
one node needs, or bounds that the rest of Tollgate relies on; the reason stands beside each.
"""

from __future__ import annotations

import base64
import subprocess
import uuid
from pathlib import Path
from typing import ClassVar, Final

from backing import classes, jars, java, ports
from backing.process import tail
from backing.service import Report, Service, silent, write_config
from backing.state import ServiceState
from schemas.errors import Unavailable
from schemas.settings import Settings
from schemas.topics import LARGEST_BATCH_BYTES

_FORMAT_TIMEOUT_S: Final = 120

# Room around a largest batch for the request that carries it.
_REQUEST_BYTES: Final = LARGEST_BATCH_BYTES + 1024 * 1024

_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
# Topics are made by `tollgate up`, with their own settings, or not at all.
auto.create.topics.enable=false
# One node.
default.replication.factor=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Internal topics of 50 partitions each cost a second of every start; one deployment needs a few.
offsets.topic.num.partitions=8
transaction.state.log.num.partitions=8
share.coordinator.state.topic.num.partitions=1
# A stopped worker's open transaction holds others up by its time-out and one such interval.
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
# One worker need not wait for others that may join.
group.initial.rebalance.delay.ms=0
# Dead letters are the largest batches; what is taken must also be readable.
message.max.bytes={largest}
replica.fetch.max.bytes={largest}
socket.request.max.bytes={request}
# After kill -9 the broker waits until its former self's session is over: the default of 9 s would be most of a
# restart.
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000
# Twice a second the controller would write that nothing happened, for followers that one node has not.
metadata.max.idle.interval.ms=10000
# Two shared cores.
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
log.cleaner.dedupe.buffer.size=16777216
"""

_LOG4J: Final = """\
status = error
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {log}
appender.file.filePattern = {log}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{yyyy-MM-dd'T'HH:mm:ss.SSS'Z'}}{{UTC}} %p %c{{1}} %m%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 2
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
"""


class Kafka(Service):
    """The native broker. Its second port is the controller's."""

    name: ClassVar[str] = "kafka"
    setting: ClassVar[str] = "kafka_bootstrap"
    port_names: ClassVar[tuple[str, ...]] = ("port", "controller")

    def __init__(self, settings: Settings, report: Report = silent) -> None:
        super().__init__(settings, report)
        # Kafka rolls its own log; what the Java runtime itself says goes beside it.
        self.output = self.log.with_name("kafka-output.log")

    def fetch(self) -> None:
        """Checks the jars and downloads those that are missing."""
        jars.class_path(jars.cache_dir(self.data_dir), self.report)

    def url_for(self, chosen: dict[str, int], password: str) -> str:
        """The bootstrap server; the native broker has no password and listens on loopback alone."""
        return f"{ports.LOOPBACK}:{chosen['port']}"

    def prepare(self, noted: ServiceState) -> list[str]:
        """Writes server.properties and formats the storage of a new data dir."""
        properties, logging, data = (
            self.folder / "server.properties",
            self.folder / "log4j2.properties",
            self.folder / "data",
        )
        write_config(
            properties,
            _PROPERTIES.format(
                host=ports.LOOPBACK,
                port=noted.ports["port"],
                controller=noted.ports["controller"],
                data=_escaped(data),
                largest=LARGEST_BATCH_BYTES,
                request=max(_REQUEST_BYTES, 100 * 1024 * 1024),
            ),
        )
        self.log.parent.mkdir(parents=True, exist_ok=True)
        write_config(logging, _LOG4J.format(log=_escaped(self.log)))
        program = self._java(logging)
        if not (data / "meta.properties").exists():
            self._format(program, properties)
        return [*program, "kafka.Kafka", str(properties)]

    def _java(self, logging: Path) -> list[str]:
        cache, program = jars.cache_dir(self.data_dir), java.find()
        class_path = jars.class_path(cache, self.report)
        return [
            str(program),
            *classes.options(program, class_path, cache / "kafka", self.report),
            "-Xms256m",
            f"-Xmx{self.settings.kafka_heap}",
            # Two shared cores: the serial collector's threads do not fight the broker's, and pauses stay small
            # in this heap.
            "-XX:+UseSerialGC",
            # The quick compiler alone: the thorough one takes seconds of both cores that a broker of this size never
            # earns back (measured over 350,000 events: 8 us of the broker's time an event with it, 4 without).
            "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            f"-XX:ErrorFile={self.log.parent}/kafka-crash-%p.log",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={logging.as_uri()}",
            "-cp",
            ":".join(str(jar) for jar in class_path),
        ]

    def _format(self, program: list[str], properties: Path) -> None:
        self.report("kafka: formatting its storage")
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # A leading dash would read as an option.
        cluster_id = f"t{cluster_id[1:]}" if cluster_id.startswith("-") else cluster_id
        arguments = ["kafka.tools.StorageTool", "format", "--ignore-formatted"]
        arguments += ["--cluster-id", cluster_id, "--config", str(properties)]
        try:
            subprocess.run(
                [*program, *arguments], capture_output=True, text=True, timeout=_FORMAT_TIMEOUT_S, check=True
            )
        except subprocess.CalledProcessError as error:
            said = (error.stderr or error.stdout or "").strip() or tail(self.log)
            raise Unavailable(f"kafka: its storage could not be formatted: {said}") from None
        except subprocess.TimeoutExpired:
            raise Unavailable(f"kafka: its storage was not formatted within {_FORMAT_TIMEOUT_S} s") from None


def _escaped(path: Path) -> str:
    """A path in a Java properties file, where a backslash starts an escape."""
    return str(path).replace("\\", "\\\\")

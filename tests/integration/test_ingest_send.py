"""`tollgate events send` on real Kafka: what the file says, unchanged, in its order, where it belongs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from aiokafka.partitioner import murmur2

from schemas.settings import Settings
from tests.deployment import Tollgate
from tests.integration.topic_reader import topic_from_now

LINES = [
    b'{"type": "session.tokens_used", "subject": "c-1", "data": {"user_id": "u"}, "n": 1.0}',
    b'{"type":"credit.granted","subject":"c-1"}',
    b'{"type":"order.completed","data":{"user_id":"us\xc3\xa9r"}}',
    b'{"type":"nobody.knows","subject":null,"data":{"user_id":"u-2"}}',
    b'{"type":"usage.reported","subject":17,"data":{"user_id":"u-3"}}',
    b'{"type":"usage.reported"}',
    b"this is no JSON",
    b'{"subject":"c-1","broken',
    b"\xff\xfe",
    b"[1,2,3]",
    b'{"type":"user.created","subject":"c-\xff"}',
    b'  {"type":"usage.reported","subject":"c-1"}  \r',
    b'{"type":"usage.reported","subject":"c-4","pad":"' + b"x" * 1_000_000 + b'"}',
]
PLACES = [
    ("usage.events", b"c-1"),
    ("account.events", b"c-1"),
    ("account.events", "usér".encode()),
    ("usage.events", b"u-2"),
    ("usage.events", b"u-3"),
    ("usage.events", b""),
    ("usage.events", b""),
    ("usage.events", b""),
    ("usage.events", b""),
    ("usage.events", b""),
    ("account.events", b""),
    ("usage.events", b"c-1"),
    ("usage.events", b"c-4"),
]
"""Topic and key of each line."""


def bootstrap(kafka: Settings) -> str:
    assert kafka.kafka_bootstrap is not None
    return kafka.kafka_bootstrap


def sorted_out(partitions: int) -> dict[tuple[str, int], list[tuple[bytes, bytes]]]:
    """The lines by topic and partition, as the Java client would place their keys."""
    placed: dict[tuple[str, int], list[tuple[bytes, bytes]]] = {}
    for line, (topic, key) in zip(LINES, PLACES, strict=True):
        placed.setdefault((topic, (murmur2(key) & 0x7FFFFFFF) % partitions), []).append((key, line))
    return placed


async def sent(kafka: Settings, arguments: list[str], stdin: bytes | None = None) -> tuple[Any, dict[Any, Any]]:
    """What the command said, and what is in the topics of it."""
    usage_topic = topic_from_now(bootstrap(kafka), "usage.events", kafka.partitions)
    account_topic = topic_from_now(bootstrap(kafka), "account.events", kafka.partitions)
    async with usage_topic as usage, account_topic as account:
        done = subprocess.run(  # noqa: ASYNC221  # nothing else happens meanwhile
            Tollgate.command("events", "send", *arguments),
            input=stdin,
            env=Tollgate(kafka).environment,
            capture_output=True,
            check=False,
            timeout=120,
        )
        found = {("usage.events", number): records for number, records in (await usage.read()).items()}
        found |= {("account.events", number): records for number, records in (await account.read()).items()}
    return done, {place: [(record.key, record.value) for record in records] for place, records in found.items()}


async def test_every_line_goes_to_its_topic_and_key_unchanged_and_unjudged(kafka: Settings, tmp_path: Path) -> None:
    """Broken ones too; blank lines are none."""
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\n".join([*LINES, b"", b" ", b""]))
    done, found = await sent(kafka, [str(file)])
    assert done.returncode == 0, done.stderr
    assert found == sorted_out(kafka.partitions)
    assert b"13 events sent" in done.stderr
    assert b"Kafka has all" in done.stderr
    assert done.stdout == b""


async def test_standard_input_is_read_to_its_end(kafka: Settings) -> None:
    """The last line needs no line feed."""
    done, found = await sent(kafka, ["-"], stdin=b"\n".join(LINES))
    assert done.returncode == 0, done.stderr
    assert found == sorted_out(kafka.partitions)


async def test_a_customers_events_keep_the_order_of_the_file(kafka: Settings, tmp_path: Path) -> None:
    """Over many batches."""
    file = tmp_path / "events.jsonl"
    with file.open("w") as out:
        for number in range(20_000):
            made = {"type": "usage.reported", "subject": f"c-{number % 100}", "n": number, "pad": "x" * 100}
            out.write(json.dumps(made) + "\n")
    done, found = await sent(kafka, [str(file)])
    assert done.returncode == 0, done.stderr
    numbers = [[json.loads(value)["n"] for _, value in records] for records in found.values()]
    assert all(partition == sorted(partition) for partition in numbers)
    assert sorted(number for partition in numbers for number in partition) == list(range(20_000))


async def test_a_line_beyond_what_kafka_takes_is_named_and_the_others_are_sent(kafka: Settings) -> None:
    """Kafka has not all of them, so the exit code is not 0."""
    done, found = await sent(kafka, ["-"], stdin=LINES[0] + b"\n" + b"x" * 5_000_000 + b"\n" + LINES[5])
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(b"tollgate: line 2:")
    assert sorted(value for records in found.values() for _, value in records) == sorted([LINES[0], LINES[5]])


def test_without_kafka_one_line_says_so(tmp_path: Path) -> None:
    """And nothing of the client's own talk."""
    file = tmp_path / "events.jsonl"
    file.write_bytes(LINES[0])
    nowhere = Settings.from_environment({}, data_dir=tmp_path, kafka_bootstrap="127.0.0.1:1")
    done = Tollgate(nowhere)("events", "send", str(file), check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "does not answer" in done.stderr


def test_a_trace_becomes_events_on_standard_output(tmp_path: Path) -> None:
    """What is left out is told on standard error."""
    file = tmp_path / "pods.csv"
    file.write_text(
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n"
        "pod-1,1500,2048,1,500,V100,LS,Running,0,20,10\n"
        "pod-2,1000,2048,0,0,,LS,Pending,0,20,\n"
    )
    nowhere = Tollgate(Settings.from_environment({}, data_dir=tmp_path))
    done = nowhere("events", "from-trace", "alibaba-gpu", str(file), "--customers", "1", "--seed", "9", "--tenant", "t")
    made = json.loads(done.stdout)
    assert made["subject"] == "customer-000000"
    assert made["tenantid"] == "t"
    assert made["time"] == made["data"]["released_at"] == "2023-01-01T00:00:20Z"
    assert (made["data"]["cpu_cores"], made["data"]["device_type"]) == (1.5, "V100")
    assert "1 rows left out" in done.stderr
    refused = nowhere("events", "from-trace", "azure-llm", str(file), check=False)
    assert refused.returncode == 2
    assert refused.stderr == "tollgate: line 1: no column TIMESTAMP; this is no azure-llm trace\n"

"""One partition's writer: a transactional producer whose start fences whoever wrote before.

A decided batch is one transaction: its ledger records, its dead letters, the records it sends on to their own
partition. It is committed or it never was. Any failure after `begin` leaves it unknown which, and is `Doubt`: this
writer is then thrown away and a new one started, which ends what the old one left open. Nothing is ever tried again
in place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerFenced

from schemas.errors import Doubt, Unavailable
from schemas.kafka import connection
from schemas.topics import USAGE_RATED

TRANSACTION_TIMEOUT_MS: Final = 10_000
"""The broker ends a stopped worker's open transaction after this, so that it holds up no reader of other topics."""

REQUEST_TIMEOUT_MS: Final = 15_000
STOP_TIMEOUT_SECONDS: Final = 5.0


class Fenced(Doubt):
    """Another writer of this partition has started since."""


@dataclass(slots=True)
class Message:
    """A record besides the ledger's."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = field(default_factory=list)


class PartitionWriter:
    """Writes the ledger of one partition. Not for use by two tasks at once."""

    def __init__(self, bootstrap: str, partition: int) -> None:
        self.partition = partition
        self._producer = AIOKafkaProducer(
            **connection(bootstrap),
            transactional_id=f"tollgate-{USAGE_RATED}-{partition}",
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            acks="all",
            # aiokafka's lz4 is its slowest level: 1.7 us an entry, where zstd takes 0.4 and a sixth less room.
            compression_type="zstd",
            max_request_size=6 * 1024 * 1024,
            linger_ms=0,
        )

    async def start(self) -> None:
        """Fences the former writer and ends its open transaction. Raises Unavailable if Kafka does not answer."""
        try:
            await self._producer.start()
        except (KafkaError, TimeoutError, OSError) as error:
            await self.stop()
            raise Unavailable(f"kafka: no transactional producer for partition {self.partition}: {error!r}") from error

    async def commit(self, records: Sequence[bytes], messages: Sequence[Message] = ()) -> list[int]:
        """Writes all or nothing; the ledger offsets of `records`. Raises Fenced or Doubt."""
        producer = self._producer
        # Ours first, other partitions last: what a stopped worker holds open there delays others the shortest.
        sending = [Message(USAGE_RATED, self.partition, None, value) for value in records]
        sent: list[asyncio.Future[Any]] = []
        try:
            await producer.begin_transaction()
            for message in (*sending, *messages):
                future = await producer.send(
                    message.topic, message.value, message.key, partition=message.partition, headers=message.headers
                )
                sent.append(future)
            offsets = [metadata.offset for metadata in await asyncio.gather(*sent)][: len(records)]
            await producer.commit_transaction()
        except ProducerFenced as error:
            raise Fenced(f"partition {self.partition} has another writer") from error
        except (KafkaError, TimeoutError, OSError) as error:
            raise Doubt(
                f"kafka: a transaction of partition {self.partition} has an unknown outcome: {error!r}"
            ) from error
        finally:
            # What failed beside the first is the same failure: heard, so that nobody reports it as forgotten.
            asyncio.gather(*sent, return_exceptions=True)
        return offsets

    async def stop(self) -> None:
        """Gives the connection back; an open transaction is left to the broker's time-out or the next writer."""
        # It is being thrown away: what it could not say any more, its successor's start says.
        with suppress(KafkaError, TimeoutError, OSError):
            await asyncio.wait_for(self._producer.stop(), STOP_TIMEOUT_SECONDS)

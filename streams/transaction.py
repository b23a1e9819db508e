"""One partition's writer: a transactional producer whose start fences whoever wrote before.

A decided batch is one transaction: its ledger records, its dead letters, the records it sends on to their own
partition. It is committed or it never was. Any failure after `begin` leaves it unknown which, and is `Doubt`: this
writer is then thrown away and a new one started, which ends what the old one left open. Nothing is ever tried again
in place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced

from schemas.errors import Doubt, Unavailable
from schemas.kafka import connection
from schemas.topics import BILLING_EVENTS, USAGE_RATED

TRANSACTION_TIMEOUT_MS: Final = 10_000
"""The broker ends a stopped worker's open transaction after this, so that it holds up no reader of other topics."""

REQUEST_TIMEOUT_MS: Final = 15_000
STOP_TIMEOUT_SECONDS: Final = 5.0

BATCH_MAX_BYTES: Final = 900_000
"""Uncompressed: within the largest batch that any topic takes."""


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
            max_batch_size=BATCH_MAX_BYTES,
        )

    async def start(self) -> None:
        """Fences the former writer and ends its open transaction. Raises Unavailable if Kafka does not answer."""
        try:
            await self._producer.start()
        except (KafkaError, TimeoutError, OSError) as error:
            await self.stop()
            raise Unavailable(f"kafka: no transactional producer for partition {self.partition}: {error!r}") from error

    async def commit(
        self,
        records: Sequence[bytes],
        messages: Sequence[Message] = (),
        announcements: Iterable[tuple[bytes, bytes]] = (),
    ) -> list[int]:
        """Writes all or nothing; the ledger offsets of `records`. Raises Fenced or Doubt.

        `announcements`, key and value of records for this partition of `billing.events`, go by the batch: there are
        many, and one by one they would cost five times as much."""
        producer = self._producer
        # Ours first, other partitions last: what a stopped worker holds open there delays others the shortest.
        sending = [Message(USAGE_RATED, self.partition, None, value) for value in records]
        sent: list[asyncio.Future[Any]] = []
        try:
            await producer.begin_transaction()
            for item in (*sending, *self._batches(announcements), *messages):
                future = await self._send(item)
                sent.append(future)
            offsets = [metadata.offset for metadata in await asyncio.gather(*sent)][: len(records)]
            await producer.commit_transaction()
        except ProducerFenced as error:
            raise Fenced(f"partition {self.partition} has another writer") from error
        except IllegalOperation as error:
            # aiokafka gave the transaction up while it was being filled, and says so to whoever sends next; why, the
            # records that were sent before know.
            if any(isinstance(_failure(future), ProducerFenced) for future in sent):
                raise Fenced(f"partition {self.partition} has another writer") from error
            raise Doubt(f"kafka: a transaction of partition {self.partition} was given up: {error}") from error
        except (KafkaError, TimeoutError, OSError) as error:
            raise Doubt(
                f"kafka: a transaction of partition {self.partition} has an unknown outcome: {error!r}"
            ) from error
        finally:
            # What failed beside the first is the same failure: heard, so that nobody reports it as forgotten.
            asyncio.gather(*sent, return_exceptions=True)
        return offsets

    async def _send(self, item: Message | Any) -> asyncio.Future[Any]:
        """A message, or a batch of announcements."""
        sent: asyncio.Future[Any]
        if isinstance(item, Message):
            sent = await self._producer.send(
                item.topic, item.value, item.key, partition=item.partition, headers=item.headers
            )
        else:
            sent = await self._producer.send_batch(item, BILLING_EVENTS, partition=self.partition)
        return sent

    def _batches(self, pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[Any]:
        """The records in as few batches as they fit in, each ready to be sent."""
        batch = None
        for key, value in pairs:
            if batch is None or batch.append(timestamp=None, key=key, value=value) is None:
                if batch is not None:
                    batch.close()
                    yield batch
                batch = self._producer.create_batch()
                batch.append(timestamp=None, key=key, value=value)
        if batch is not None:
            batch.close()
            yield batch

    async def stop(self) -> None:
        """Gives the connection back; an open transaction is left to the broker's time-out or the next writer."""
        # It is being thrown away: what it could not say any more, its successor's start says.
        with suppress(KafkaError, TimeoutError, OSError):
            await asyncio.wait_for(self._producer.stop(), STOP_TIMEOUT_SECONDS)


def _failure(sent: asyncio.Future[Any]) -> BaseException | None:
    return sent.exception() if sent.done() and not sent.cancelled() else None

"""An idempotent Kafka producer: connected within a time, and ended within one.

aiokafka itself waits for an absent Kafka for ever. Errors: Unavailable.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed

from schemas.errors import Unavailable
from schemas.kafka import connection
from schemas.limits import INPUT_RECORD_MAX_BYTES

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_MS: Final = 30_000
"""After it a request without an answer is sent again. No record is doubled by that: the producer is idempotent."""

CUT_OFF_S: Final = 5.0
"""How long a producer that is cut off may take to notice."""


async def connect(bootstrap: str, batch_bytes: int, timeout_s: float) -> AIOKafkaProducer:
    """A producer that has met Kafka: acks=all, lz4, and nothing gathered, since batches come gathered."""
    producer = AIOKafkaProducer(
        **connection(bootstrap),
        enable_idempotence=True,
        acks="all",
        compression_type="lz4",
        linger_ms=0,
        max_batch_size=batch_bytes,
        max_request_size=INPUT_RECORD_MAX_BYTES,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )
    try:
        async with asyncio.timeout(timeout_s):
            await producer.start()
    except (KafkaError, OSError, TimeoutError) as error:
        await stop(producer, 0)
        raise Unavailable(f"Kafka at {bootstrap} does not answer: {error!r}") from error
    except BaseException:
        await stop(producer, 0)
        raise
    return producer


async def stop(producer: AIOKafkaProducer, timeout_s: float) -> None:
    """Stops a producer. One that can not send what it has is cut off: aiokafka itself would wait for Kafka for ever."""
    try:
        async with asyncio.timeout(timeout_s):
            await producer.stop()
    except TimeoutError:
        pass
    else:
        return
    # Private names of the pinned aiokafka; tests/integration/test_ingest_outage.py fails when they change.
    task, client = producer._sender.sender_task, producer.client
    if task is not None:
        task.remove_done_callback(producer._sender._fail_all)  # it trips over a producer without transactions
        task.cancel()
    await client.close()
    if client._md_update_fut is not None and not client._md_update_fut.done():
        client._md_update_fut.set_result(False)
    producer._message_accumulator.fail_all(ProducerClosed())
    if task is not None:
        await asyncio.wait([task], timeout=CUT_OFF_S)
        if task.done() and not task.cancelled() and task.exception() is not None:
            log.debug("the producer that was cut off ended with %r", task.exception())

"""What goes out with a decided chunk, in its transaction: dead letters with their originals, events of ours, commands
to other customers, and records that lay in a wrong partition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from rating.decision import Command, Decision, Outgoing, Received
from schemas.canonical import json_of
from schemas.ids import partition_of
from schemas.ledger import INPUT_TOPICS, Entries
from schemas.period import format_time
from schemas.topics import ACCOUNT_EVENTS, BILLING_EVENTS, DEAD_LETTERS
from streams.transaction import Message

OURS: Final = "tollgate"
"""`source` of the events and commands that deciding sends."""


def messages_of(
    decision: Decision, received: Sequence[Received], partition: int, partitions: int, first_seq: int
) -> list[Message]:
    """The messages of a chunk whose first entry has `first_seq`; second legs of transfers among the last."""
    messages: list[Message] = []
    entries = decision.entries
    for dead in decision.dead_letters:
        record = received[dead.place]
        topic = INPUT_TOPICS[record.input]
        headers = {
            "reason": dead.reason,
            "detail": dead.detail,
            "topic": topic,
            "partition": str(partition),
            "offset": str(record.offset),
            "seq": str(first_seq + dead.place),
            "tenant": entries.tenant[dead.place],
            "customer": entries.customer[dead.place],
            "source": entries.source[dead.place],
            "event_id": entries.event_id[dead.place],
            "event_type": entries.event_type[dead.place],
            "received_at": str(record.received_at),
        }
        messages.append(
            Message(
                DEAD_LETTERS[topic],
                partition,
                record.key,
                record.value,
                [(header, value.encode("utf-8", "replace")) for header, value in headers.items()],
            )
        )
    told: Counter[int] = Counter()
    for outgoing in decision.outgoing:
        event_id = f"{partition}-{first_seq + outgoing.place}-{told[outgoing.place]}"
        tell = _outgoing(outgoing, entries, received, event_id)
        told[outgoing.place] += 1
        messages.append(Message(BILLING_EVENTS, partition, entries.customer[outgoing.place].encode(), tell))
    for command in decision.commands:
        home = partition_of(command.customer, partitions)
        messages.append(Message(ACCOUNT_EVENTS, home, command.customer.encode(), _command(command, entries)))
    for index, home in decision.reroutes:
        record = received[index]
        messages.append(Message(INPUT_TOPICS[record.input], home, record.key, record.value))
    return messages


def _outgoing(outgoing: Outgoing, entries: Entries, received: Sequence[Received], event_id: str) -> bytes:
    """An event of ours as it stands on `billing.events`; its id is its entry's place in the ledger."""
    place = outgoing.place
    return json_of(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": OURS,
            "type": outgoing.type,
            "subject": entries.customer[place],
            "time": format_time(received[place].received_at),
            "tenantid": entries.tenant[place],
            "dataschema": f"https://tollgate.dev/schemas/{outgoing.type}/1",
            "data": outgoing.data,
        }
    )


def _command(command: Command, entries: Entries) -> bytes:
    return json_of(
        {
            "specversion": "1.0",
            "id": command.id,
            "source": OURS,
            "type": command.type,
            "subject": command.customer,
            "tenantid": entries.tenant[command.place],
            "data": command.data,
        }
    )

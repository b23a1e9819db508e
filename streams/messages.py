"""What goes out with a decided chunk, in its transaction: dead letters with their originals, events of ours, commands
to other customers, and records that lay in a wrong partition.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from rating.decision import Command, Decision, Outgoing
from rating.names import Names
from schemas.canonical import json_of
from schemas.ids import partition_of
from schemas.ledger import INPUT_TOPICS
from schemas.period import format_time
from schemas.topics import ACCOUNT_EVENTS, BILLING_EVENTS, DEAD_LETTERS
from streams.transaction import Message

OURS: Final = "tollgate"
"""`source` of the events and commands that deciding sends."""


def messages_of(
    decision: Decision, names: Names, start: int, partition: int, partitions: int, first_seq: int
) -> list[Message]:
    """The messages of a chunk of the batch, from its record `start` on, whose first entry has `first_seq`; second legs
    of transfers among the last."""
    messages: list[Message] = []
    columns = decision.columns
    assert columns is not None
    for dead in decision.dead_letters:
        record = names.received[start + dead.place]
        topic = INPUT_TOPICS[record.input]
        headers = {
            "reason": dead.reason,
            "detail": dead.detail,
            "topic": topic,
            "partition": str(partition),
            "offset": str(record.offset),
            "seq": str(first_seq + dead.place),
            "tenant": columns.tenant.at(dead.place),
            "customer": names.customer[start + dead.place],
            "source": columns.source.at(dead.place),
            "event_id": names.event_id[start + dead.place],
            "event_type": columns.event_type.at(dead.place),
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
        customer = names.customer[start + outgoing.place]
        received_at = int(names.received_at[start + outgoing.place])
        tell = _outgoing(outgoing, columns.tenant.at(outgoing.place), customer, received_at, event_id)
        told[outgoing.place] += 1
        messages.append(Message(BILLING_EVENTS, partition, customer.encode(), tell))
    for command in decision.commands:
        home = partition_of(command.customer, partitions)
        tell = _command(command, columns.tenant.at(command.place))
        messages.append(Message(ACCOUNT_EVENTS, home, command.customer.encode(), tell))
    for index, home in decision.reroutes:
        record = names.received[start + index]
        messages.append(Message(INPUT_TOPICS[record.input], home, record.key, record.value))
    return messages


def _outgoing(outgoing: Outgoing, tenant: str, customer: str, received_at: int, event_id: str) -> bytes:
    """An event of ours as it stands on `billing.events`; its id is its entry's place in the ledger."""
    return json_of(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": OURS,
            "type": outgoing.type,
            "subject": customer,
            "time": format_time(received_at),
            "tenantid": tenant,
            "dataschema": f"https://tollgate.dev/schemas/{outgoing.type}/1",
            "data": outgoing.data,
        }
    )


def _command(command: Command, tenant: str) -> bytes:
    return json_of(
        {
            "specversion": "1.0",
            "id": command.id,
            "source": OURS,
            "type": command.type,
            "subject": command.customer,
            "tenantid": tenant,
            "data": command.data,
        }
    )

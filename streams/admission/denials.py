"""Denials on their way to ClickHouse: told once, at most; Redis has each for 24 hours besides."""

from __future__ import annotations

import orjson

from ingest.accept import Record
from schemas.topics import DENIALS
from streams.admission.answers import Denial
from streams.admission.outbox import Outbox


class DenialLog:
    """Writes denials to `admission.denials`."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def denied(self, denial: Denial) -> None:
        """Something was not allowed."""
        value = orjson.dumps({"tenant": denial.tenant, "denied_us": denial.denied_at, **denial.document()})
        self._outbox.put(Record(DENIALS, denial.customer.encode(), value))

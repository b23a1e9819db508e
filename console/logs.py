"""What processes write to standard error: our own lines from INFO on, the libraries' from WARNING on."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Final

REPEATED_SECONDS: Final = 30.0
"""A line of a Kafka client comes once in so long: without Kafka it has forty thousand to say in a minute."""

_KAFKA: Final = "aiokafka"


class Seldom(logging.Filter):
    """Passes of each place in the Kafka clients one record a while, which says how many it stands for."""

    def __init__(self, elapsed_seconds: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._elapsed_seconds = elapsed_seconds
        self._said: dict[tuple[str, int], tuple[float, int]] = {}
        """By place: when it last said something, and how often it has not since."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        if record.name.partition(".")[0] != _KAFKA:
            return True
        place, now = (record.name, record.lineno), self._elapsed_seconds()
        said, unsaid = self._said.get(place, (now - REPEATED_SECONDS, 0))
        if now - said < REPEATED_SECONDS:
            self._said[place] = (said, unsaid + 1)
            return False
        if unsaid:
            record.msg, record.args = f"{record.getMessage()} (and {unsaid} more like it before)", ()
        self._said[place] = (now, 0)
        return True


def log_to_stderr() -> None:
    """For the rest of the process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Seldom())
    logging.basicConfig(
        level=logging.WARNING,
        handlers=[handler],
        format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s",
    )
    for package in ("api", "backing", "console", "ingest", "invoicing", "rating", "streams"):
        logging.getLogger(package).setLevel(logging.INFO)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # tells of each attempt; who made it says so once
    logging.getLogger("streams.transport").setLevel(logging.WARNING)  # Faust logs its life cycle under this name

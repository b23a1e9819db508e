"""Every error of Tollgate, by what whoever meets it must do.

    TollgateError
    ├── InvalidInput       the input is at fault: refuse it (422) or make it a dead letter
    ├── Conflict           it contradicts what already stands: refuse it (409), or a dead letter and an alert
    ├── Unavailable        a store is away: try the same again, in place (503)
    │   └── Doubt          the outcome of an effect is unknown: forget everything, open the partition again
    └── InvariantBroken    a promise of ours is broken: stop the process (500)

The core knows no HTTP status and no offset; two tables at the rims map these classes.
"""

from __future__ import annotations


class TollgateError(Exception):
    """Root of all errors raised on purpose."""


class InvalidInput(TollgateError):
    """Input that can never be accepted as it is.

    `reason` is a machine-readable word (a dead letter's reason), `pointer` an RFC 6901 JSON pointer to the
    field at fault (empty for the whole), and the message a readable detail that names field and reason.
    """

    def __init__(self, reason: str, detail: str, pointer: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.pointer = pointer


class Conflict(TollgateError):
    """It contradicts something that stands; the first stands."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Unavailable(TollgateError):
    """A store or service did not answer; nothing is known to have happened; the same call may be repeated."""


class Doubt(Unavailable):
    """An effect may or may not have happened. Never retried in place: the partition is opened again from its log."""


class InvariantBroken(TollgateError):
    """Something that can not be, is. The process that finds it stops rather than build on it."""

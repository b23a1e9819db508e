"""An entry of the audit log: who asked for which change, when, and how it was answered. What a change held is named,
not kept: bodies hold addresses of people and worse.
"""

from __future__ import annotations

import msgspec


class AuditEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the two records of a change; the one with a status comes second and replaces the first."""

    id: str
    tenant: str
    at: int
    """Microseconds: when it was asked for, in both records."""
    actor: str
    """The id of a token, or `user@host` of a command line."""
    action: str
    """Method and route template, or a command."""
    target: str
    """The path, or the command's arguments."""
    status: int = 0
    """HTTP's; 0 in the first record."""
    detail: str = ""
    """Which fields the body named, and the SHA-256 of its bytes."""


encode_entry = msgspec.json.Encoder().encode
decode_entry = msgspec.json.Decoder(AuditEntry).decode

"""Commands that change what is charged, or who may, are written into the audit log.

The command line may run before anything else does, so it notes them in a file beside the service tokens, from which a
running API brings them into the log.
"""

from __future__ import annotations

import getpass
import logging
import secrets
import socket
import time
from collections.abc import Sequence
from typing import Final

from schemas.errors import InvalidInput
from schemas.settings import Settings

log = logging.getLogger(__name__)

NOTED: Final = frozenset(
    (
        "token issue", "token revoke", "token rotate", "catalog apply", "dlq retry", "dlq drop", "invoices close",
        "invoices finalize", "invoices void", "rerate", "rebuild", "jobs run",
    )
)  # fmt: skip
WORDS_MAX_CHARACTERS: Final = 2_000


def note_command(words: Sequence[str], code: int) -> None:
    """Notes a command that has ended, if it is of those that change something. No failure of it is the command's."""
    name = _name_of(words)
    if name is None or {"-h", "--help"} & set(words):
        return
    from api.audit_file import FILE, note
    from schemas.audit import AuditEntry

    entry = AuditEntry(
        secrets.token_hex(12),
        _option(words, "--tenant"),
        time.time_ns() // 1_000,
        f"{getpass.getuser()}@{socket.gethostname()}",
        f"tollgate {name}",
        " ".join(words)[:WORDS_MAX_CHARACTERS],
        200 if code == 0 else 500,
    )
    try:
        note(Settings.from_environment().tokens_file.with_name(FILE), entry)
    except (OSError, InvalidInput) as error:
        log.warning("the command could not be noted in the audit log: %s", error)


def _name_of(words: Sequence[str]) -> str | None:
    for count in (2, 1):
        name = " ".join(words[:count])
        if name in NOTED:
            return name
    return None


def _option(words: Sequence[str], name: str) -> str:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return ""

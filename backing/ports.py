"""Free ports of the loopback interface.

Chosen below the kernel's ephemeral range, so that a service that is restarted does not find its port in use by
somebody's outgoing connection. Another program may still take a port between the choice and its use: whoever
starts a service with a chosen port has to expect that and choose again.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Collection
from typing import Final

from schemas.errors import Unavailable

LOOPBACK: Final = "127.0.0.1"
_LOWEST: Final = 15_000
_HIGHEST: Final = 31_999
_TRIES: Final = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def choose(besides: Collection[int] = ()) -> int:
    """A free port that is none of `besides`. Errors: Unavailable."""
    for _ in range(_TRIES):
        port = random.SystemRandom().randint(_LOWEST, _HIGHEST)
        if port not in besides and is_free(port):
            return port
    raise Unavailable(f"no free port found between {_LOWEST} and {_HIGHEST}")

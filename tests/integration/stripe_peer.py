"""Stripe's peer as a process of its own, for as long as a test needs it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from backing import ports
from tests.architecture.sources import ROOT
from tests.deployment import until


def answers(port: int) -> bool:
    """Whether somebody listens."""
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def stripe_peer() -> Iterator[str]:
    """tests.fakes.stripe_peer; its address."""
    port = ports.choose(())
    process = subprocess.Popen([sys.executable, "-m", "tests.fakes.stripe_peer", str(port)], cwd=ROOT)
    try:
        until(lambda: answers(port) or process.poll() is not None)
        assert process.poll() is None
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)

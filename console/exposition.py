"""A process's metrics over HTTP, on a port of its own, which `tollgate status --json` names."""

from __future__ import annotations

import errno
import logging
from typing import Final

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, start_http_server

from console.supervisor import say_metrics
from schemas.settings import Settings

log = logging.getLogger(__name__)

_TAKEN: Final = (errno.EADDRINUSE, errno.EACCES)


def expose(settings: Settings) -> CollectorRegistry:
    """A registry whose metrics can be scraped from now on until the process ends, from a thread of its own."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    host = settings.metrics_host
    try:
        server, _ = start_http_server(settings.metrics_port, host, registry)
    except OSError as error:
        if error.errno not in _TAKEN or settings.metrics_port == 0:
            raise
        log.warning("port %d is taken: metrics are on a free one", settings.metrics_port)
        server, _ = start_http_server(0, host, registry)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{server.server_port}/metrics"
    say_metrics(settings.data_dir, url)
    log.info("metrics on %s", url)
    return registry

"""The external backend: services that somebody else runs, at the URLs of the settings. Started and stopped by no
one here.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

from backing import probe, state
from backing.service import Report
from backing.state import ServiceState
from schemas.errors import Unavailable
from schemas.settings import Settings

_POLL_S: Final = 0.25


def start(settings: Settings, wanted: Collection[str], report: Report) -> None:
    """Waits until each answers, and remembers it. Errors: Unavailable."""
    urls = {"kafka": settings.kafka_bootstrap, "redis": settings.redis_url, "clickhouse": settings.clickhouse_url}
    for name in wanted:
        url = urls[name]
        assert url is not None, "the external backend is chosen only where every URL is given"
        await_answer(settings, name, url)
        report(f"{name}: answers at {probe.without_password(url) if '://' in url else url}")
        state.remember(settings.data_dir, name, ServiceState(url=str(url)))


def await_answer(settings: Settings, name: str, url: str) -> None:
    """Returns when the service answers. Errors: Unavailable after the bound of the settings."""
    deadline = time.monotonic() + settings.start_timeout.total_seconds()
    while True:
        try:
            probe.PROBES[name](url, probe.DEFAULT_TIMEOUT_S)
        except Unavailable as error:
            if time.monotonic() >= deadline:
                raise Unavailable(f"{error} (waited {settings.start_timeout})") from None
            time.sleep(_POLL_S)
        else:
            return

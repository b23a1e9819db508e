"""The native backend: the three services as processes of this machine, with Python alone."""

from __future__ import annotations

from collections.abc import Collection

from backing.clickhouse import ClickHouse
from backing.kafka import Kafka
from backing.redis import Redis
from backing.service import Report, Service, silent
from schemas.settings import Settings

__all__ = ["ClickHouse", "Kafka", "Redis", "services", "start", "stop"]


def services(settings: Settings, only: Collection[str] | None = None, report: Report = silent) -> list[Service]:
    """The services in the order they are started in: what is ready first, first."""
    every: list[Service] = [Redis(settings, report), ClickHouse(settings, report), Kafka(settings, report)]
    return [service for service in every if only is None or service.name in only]


def start(settings: Settings, only: Collection[str] | None = None, report: Report = silent) -> None:
    """Starts those that do not run, all at once, and returns when all answer."""
    wanted = services(settings, only, report)
    for service in wanted:
        service.fetch()
        service.begin()
    for service in wanted:
        service.wait()


def stop(settings: Settings, only: Collection[str] | None = None, report: Report = silent) -> None:
    """Stops those that run, readers of Kafka before Kafka."""
    for service in services(settings, only, report):
        service.stop()

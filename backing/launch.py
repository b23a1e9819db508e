"""`tollgate up` and `down`: backing services of a data dir, from whichever backend, made ready for Tollgate.

`up` may be called any number of times, by several at once: it starts what does not run, waits until each
service answers, creates topics, applies ClickHouse's migrations and remembers where everything is. `attach`
gives any other command the settings with those addresses filled in. Errors: InvalidInput (settings that
contradict what runs), Unavailable.
"""

from __future__ import annotations

import dataclasses
import importlib
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Final

import msgspec

from backing import docker, external, native, state, topics
from backing.clickhouse import reader_url
from backing.probe import without_password
from backing.service import Report, silent
from backing.state import SERVICES, State
from schemas.errors import InvalidInput, Unavailable
from schemas.settings import Settings, variable_of

URL_SETTINGS: Final = {"kafka": "kafka_bootstrap", "redis": "redis_url", "clickhouse": "clickhouse_url"}
_LOCK: Final = "up.lock"


def up(
    settings: Settings,
    *,
    backend: str | None = None,
    only: Collection[str] | None = None,
    report: Report = silent,
) -> Settings:
    """Brings the services up and returns the settings with their addresses filled in.

    `only` names the services to bring up, all if None.
    """
    wanted = tuple(name for name in SERVICES if only is None or name in only)
    with state.locked(settings.data_dir / _LOCK, lambda: report("another `tollgate up` or `down` is at work; waiting")):
        before = state.read(settings.data_dir)
        chosen = _choose(settings, backend or settings.backend, before)
        settings = dataclasses.replace(settings, partitions=_partitions(settings, chosen, before))
        _refuse_another_address(settings, chosen, before)
        state.update(settings.data_dir, lambda old: msgspec.structs.replace(old, backend=chosen))
        report(f"backend: {chosen}")
        if chosen == "external":
            external.start(settings, wanted, report)
        elif chosen == "docker":
            docker.start(settings, wanted, report)
        else:
            native.start(settings, wanted, report)
        ready = dataclasses.replace(attach(settings, wanted), partitions=settings.partitions)
        _make_ready(ready, wanted, report)
        state.update(settings.data_dir, lambda old: msgspec.structs.replace(old, partitions=settings.partitions))
        return ready


def down(settings: Settings, *, purge: bool = False, report: Report = silent) -> None:
    """Stops what `up` started; with `purge` removes the data dir's content too."""
    if not settings.data_dir.exists():
        report(f"nothing runs in {settings.data_dir}")
        return
    if purge:
        _refuse_to_purge(settings.data_dir)
    with state.locked(settings.data_dir / _LOCK, lambda: report("another `tollgate up` or `down` is at work; waiting")):
        backend = state.read(settings.data_dir).backend
        if not backend and all(service.pid is None for service in native.services(settings)):
            report(f"nothing was started in {settings.data_dir}")
        if backend == "docker":
            docker.stop(settings, purge=purge, report=report)
        # Whatever is remembered, no process of this data dir is left.
        native.stop(settings, report=report)
        if purge:
            _remove_content(settings.data_dir)
            report(f"removed {settings.data_dir}")
        elif backend == "external":
            report("the services were given from outside and go on")


def attach(settings: Settings, only: Collection[str] | None = None) -> Settings:
    """The settings with the remembered addresses of services that they do not give. Errors: Unavailable."""
    remembered = state.read(settings.data_dir)
    found: dict[str, object] = {}
    for name in SERVICES:
        field = URL_SETTINGS[name]
        if getattr(settings, field) is not None:
            continue
        if name in remembered.services:
            found[field] = remembered.services[name].url
        elif only is None or name in only:
            raise Unavailable(
                f"no {name} is known in {settings.data_dir}: run `tollgate up`, or set {variable_of(field)}"
            )
    clickhouse = remembered.services.get("clickhouse")
    if (
        remembered.backend == "native"
        and clickhouse is not None
        and settings.clickhouse_url in (None, clickhouse.url)
        and settings.clickhouse_reader_url is None
    ):
        found["clickhouse_reader_url"] = reader_url(clickhouse.url)
    if remembered.partitions and "kafka_bootstrap" in found and not settings.is_given("partitions"):
        found["partitions"] = remembered.partitions
    return dataclasses.replace(settings, **found)  # type: ignore[arg-type]  # fields by name


def _choose(settings: Settings, asked: str, before: State) -> str:
    given = [name for name in SERVICES if getattr(settings, URL_SETTINGS[name]) is not None]
    running = [service.name for service in native.services(settings) if service.pid is not None]
    chosen = asked
    if asked == "auto":
        if len(given) == len(SERVICES) and not running:
            chosen = "external"
        elif running or before.backend == "native":
            chosen = "native"
        elif before.backend == "docker" or docker.answers():
            chosen = "docker"
        else:
            chosen = "native"
    if chosen == "external":
        missing = [variable_of(URL_SETTINGS[name]) for name in SERVICES if name not in given]
        if missing:
            raise InvalidInput("backend", f"the external backend needs {', '.join(missing)}")
    if chosen == "docker" and not docker.answers():
        raise Unavailable("no Docker engine with compose answers")
    if chosen != "external" and settings.kafka_security_protocol != "PLAINTEXT":
        raise InvalidInput(
            "backend",
            f"{variable_of('kafka_security_protocol')} is for a Kafka that is given; ours is open",
        )
    if chosen != "native" and running:
        raise InvalidInput(
            "backend", f"native services run in {settings.data_dir} ({', '.join(running)}): `tollgate down` first"
        )
    return chosen


def _partitions(settings: Settings, chosen: str, before: State) -> int:
    """The number somebody chose, else the one it was created with, else the backend's own."""
    if settings.is_given("partitions"):
        return settings.partitions
    return before.partitions or (docker.PARTITIONS if chosen == "docker" else settings.partitions)


def _refuse_another_address(settings: Settings, chosen: str, before: State) -> None:
    """A service that runs stays where it is."""
    if chosen != "native":
        return
    for service in native.services(settings):
        given, noted = service.given_url(), before.services.get(service.name)
        if given is not None and noted is not None and given != noted.url and service.pid is not None:
            raise InvalidInput(
                "setting",
                f"{service.name} runs at {without_password(noted.url)}, {variable_of(service.setting)} says otherwise: "
                "`tollgate down` first",
            )


def _make_ready(settings: Settings, wanted: Collection[str], report: Report) -> None:
    if "kafka" in wanted:
        assert settings.kafka_bootstrap is not None
        topics.create(
            settings.kafka_bootstrap,
            partitions=settings.partitions,
            replication=settings.replication,
            bound=settings.start_timeout,
        )
        report("kafka: topics are there")
    if "clickhouse" in wanted:
        assert settings.clickhouse_url is not None
        migrate = getattr(importlib.import_module("schemas.clickhouse"), "migrate", None)
        if not callable(migrate):
            report("clickhouse: this version has no migrations")
            return
        for name in migrate(settings.clickhouse_url):
            report(f"clickhouse: applied {name}")


def _refuse_to_purge(data_dir: Path) -> None:
    here = Path.cwd().resolve()
    there = data_dir.resolve()
    for kept, what in ((here, "the working directory"), (Path.home().resolve(), "your home")):
        if there == kept or there in kept.parents:
            raise InvalidInput("setting", f"TOLLGATE_DATA_DIR={data_dir} holds {what}; that is never removed")


def _remove_content(data_dir: Path) -> None:
    """All but the lock, which is held, and goes last."""
    for entry in data_dir.iterdir():
        if entry.name == _LOCK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    (data_dir / _LOCK).unlink()
    data_dir.rmdir()

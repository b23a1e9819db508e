"""Where the three stores answer: what the settings say, else what the last `tollgate up` remembers."""

from __future__ import annotations

from typing import NamedTuple

from backing import state
from schemas.errors import InvalidInput
from schemas.settings import Settings, variable_of


class Urls(NamedTuple):
    """Addresses with credentials: never print one as it is."""

    kafka: str
    """host:port, several with commas between."""
    redis: str
    clickhouse: str


def urls(settings: Settings) -> Urls:
    """The addresses of a deployment. InvalidInput that says what to do where one is not known."""
    given = {
        "kafka": settings.kafka_bootstrap,
        "redis": settings.redis_url,
        "clickhouse": settings.clickhouse_url,
    }
    remembered = state.read(settings.data_dir).services
    variables = {"kafka": "kafka_bootstrap", "redis": "redis_url", "clickhouse": "clickhouse_url"}
    found: dict[str, str] = {}
    for name, url in given.items():
        known = url or (remembered[name].url if name in remembered else None)
        if known is None:
            variable = variable_of(variables[name])
            raise InvalidInput("setting", f"no {name} is known: run `tollgate up` first, or set {variable}", f"/{name}")
        found[name] = known
    return Urls(**found)

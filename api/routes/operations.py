"""Whether the process lives, whether it can serve, and what it measured. These need no token and say nothing secret."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.answers import AliveAnswer, Dependency, ReadyAnswer, UnservedPartition
from api.parts import Application, Tollgate

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def get_health() -> AliveAnswer:
    """The process answers."""
    return AliveAnswer(status="ok")


@router.get("/readyz", responses={503: {"model": ReadyAnswer, "description": "Something is not ready"}})
async def get_readiness(tollgate: Tollgate, response: Response) -> ReadyAnswer:
    """200 only when every dependency answers, there is a catalogue, and every partition is served."""
    report = await tollgate.readiness.report()
    response.status_code = 200 if report.ready else 503
    return ReadyAnswer(
        ready=report.ready,
        dependencies={
            name: Dependency(ready=detail is None, detail=detail, breaker=_breaker(tollgate, name))
            for name, detail in report.dependencies.items()
        },
        partitions=report.partitions,
        unserved=[
            UnservedPartition(partition=partition, detail=detail) for partition, detail in report.unserved.items()
        ],
    )


def _breaker(tollgate: Application, name: str) -> str | None:
    breaker = tollgate.breakers.get(name)
    return breaker.state.value if breaker is not None else None


@router.get("/metrics", response_class=Response)
async def get_metrics(tollgate: Tollgate) -> Response:
    """Metrics for Prometheus."""
    return Response(generate_latest(tollgate.measures.registry), media_type=CONTENT_TYPE_LATEST)

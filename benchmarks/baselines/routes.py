"""What an HTTP answer costs at least: a FastAPI route that does nothing, and one that makes one bare script call.

    python -m benchmarks.baselines.routes REDIS_URL

Served as the API is (uvicorn, httptools, uvloop, one process). It prints its address and serves until it is ended.
"""

from __future__ import annotations

import socket
import sys

import uvicorn
import uvloop
from fastapi import FastAPI
from redis.asyncio import Redis

from benchmarks.baselines.bare import BareCall


def application(redis_url: str) -> FastAPI:
    """The two routes."""
    app = FastAPI(docs_url=None, redoc_url=None)
    bare = BareCall(Redis.from_url(redis_url))

    @app.post("/empty")
    async def empty() -> dict[str, str]:
        return {"held": "0"}

    @app.post("/bare")
    async def call() -> dict[str, str]:
        return {"held": (await bare()).decode()}

    return app


async def run(redis_url: str) -> None:
    """Serves."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        application(redis_url), http="httptools", ws="none", lifespan="off", log_config=None, access_log=False
    )
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1]))

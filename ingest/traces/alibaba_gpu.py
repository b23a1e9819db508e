"""Alibaba's GPU cluster trace of 2023 (pods): one row a pod, the scheduled ones as `device.released`.

The trace counts seconds from an instant that it does not name; here that is START. A pod without a scheduled time was
never allocated: it makes no event. Memory is in MiB there and kept as that number of `memory_mb`. A pod that names no
GPU model is of type `gpu` if it has GPUs, else `cpu`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from ingest.traces.row import Row
from schemas.period import SECOND, format_time, parse_time
from schemas.usage_types import DEVICE_RELEASED

COLUMNS: Final = (
    "name", "cpu_milli", "memory_mib", "num_gpu", "gpu_spec", "deletion_time", "scheduled_time",
)  # fmt: skip
SOURCE: Final = "alibaba-gpu-2023"
START: Final = parse_time("2023-01-01T00:00:00Z")


def event(row: Row) -> tuple[int, dict[str, Any]] | None:
    """The release's time in microseconds and its event; None for a pod that was never allocated."""
    fields = row.fields
    if not fields["scheduled_time"]:
        return None
    gpus = row.whole("num_gpu")
    allocated_at = START + row.whole("scheduled_time") * SECOND
    released_at = START + row.whole("deletion_time") * SECOND
    name = fields["name"]
    released = format_time(released_at)
    return released_at, {
        "specversion": "1.0",
        "id": f"release-{name}",
        "source": f"{SOURCE}-{row.draw}",
        "type": DEVICE_RELEASED,
        "subject": row.spread.customer,
        "time": released,
        "data": {
            "device_id": name,
            "allocation_id": f"{name}-{row.draw}",
            "allocated_at": format_time(allocated_at),
            "released_at": released,
            "cpu_cores": _thousandth(row.whole("cpu_milli")),
            "memory_mb": row.whole("memory_mib"),
            "storage_mb": 0,
            "gpu_count": gpus,
            "device_type": fields["gpu_spec"] or ("gpu" if gpus else "cpu"),
        },
    }


def _thousandth(milli: int) -> int | Decimal:
    whole, rest = divmod(milli, 1000)
    return whole if not rest else Decimal(milli).scaleb(-3).normalize()

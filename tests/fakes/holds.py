"""A partition without holds."""

from __future__ import annotations


class NoHolds:
    """Has lost none."""

    async def restore(self, partition: int) -> int:
        return 0

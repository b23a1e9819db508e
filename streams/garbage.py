"""Python's collector of cycles, as a process that serves wants it: what is loaded stays, and is not walked through."""

from __future__ import annotations

import gc


def spare(threshold: int) -> None:
    """Once all is loaded. From now on the collector looks after so many more values were made than went away."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(threshold)

"""Bytes as compiled loops take them: digests a row each, records end to end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def laid(digests: Sequence[bytes], size: int = 16) -> NDArray[np.uint8]:
    """Digests of `size` bytes as rows."""
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, size)


def booked(identities: Sequence[bytes], contents: Sequence[bytes]) -> NDArray[np.uint8]:
    """Identities and their contents, end to end in a row each."""
    return laid([identity + content for identity, content in zip(identities, contents, strict=True)], 24)


def ends(values: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Values end to end: the bytes, where each begins, and its size."""
    sizes = np.array([len(value) for value in values], np.int64)
    return np.frombuffer(b"".join(values), np.uint8), np.cumsum(sizes) - sizes, sizes

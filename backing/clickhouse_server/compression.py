"""Bodies in the encodings of HTTP: requests decompressed up to a bound, answers compressed as they stream. Pure.

zstd and gzip (and HTTP's deflate, which is zlib's form) are there wherever Python is; lz4, in its frame format,
where the `lz4` package is. A body may be several frames one after the other, as clickhouse-connect sends one a
block. Errors: Refusal (unknown encoding, damaged or cut body, more than the bound).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import zlib
from collections.abc import Callable
from typing import Final, Protocol

from backing.clickhouse_server.errors import (
    CANNOT_DECOMPRESS,
    QUERY_IS_TOO_LARGE,
    UNKNOWN_COMPRESSION_METHOD,
    refusal,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# clickhouse-connect brings it on Pythons before 3.14 and prefers zstd on later ones.
_lz4 = importlib.import_module("lz4.frame") if importlib.util.find_spec("lz4") is not None else None

_GZIP: Final = zlib.MAX_WBITS | 16
_STEP_BYTES: Final = 1024 * 1024
_ZSTD_LEVEL: Final = 1
_ZLIB_LEVEL: Final = 3


class Compressor(Protocol):
    """An answer being compressed."""

    def compress(self, data: bytes) -> bytes:
        """What can be sent of it by now."""

    def flush(self) -> bytes:
        """The rest."""


class _Decompressor(Protocol):
    def decompress(self, data: bytes, max_length: int) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...


class _Zlib:
    """zlib's decompressor with the interface that the others share."""

    def __init__(self, window_bits: int) -> None:
        self._stream = zlib.decompressobj(window_bits)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data


class _Lz4:
    """lz4's frame compressor, whose frame begins by a call of its own."""

    def __init__(self) -> None:
        assert _lz4 is not None
        self._stream = _lz4.LZ4FrameCompressor()
        self._begin: bytes = self._stream.begin()

    def compress(self, data: bytes) -> bytes:
        begin, self._begin = self._begin, b""
        return begin + bytes(self._stream.compress(data))

    def flush(self) -> bytes:
        begin, self._begin = self._begin, b""
        return begin + bytes(self._stream.flush())


_DECOMPRESSORS: Final[dict[str, Callable[[], _Decompressor]]] = {
    "zstd": zstd.ZstdDecompressor,
    "gzip": lambda: _Zlib(_GZIP),
    "deflate": lambda: _Zlib(zlib.MAX_WBITS),
}
_COMPRESSORS: Final[dict[str, Callable[[], Compressor]]] = {
    "zstd": lambda: zstd.ZstdCompressor(_ZSTD_LEVEL),
    "gzip": lambda: zlib.compressobj(_ZLIB_LEVEL, wbits=_GZIP),
    "deflate": lambda: zlib.compressobj(_ZLIB_LEVEL),
}
if _lz4 is not None:
    _DECOMPRESSORS["lz4"] = _lz4.LZ4FrameDecompressor
    _COMPRESSORS["lz4"] = _Lz4


def decompress(body: bytes, encoding: str, largest_bytes: int) -> bytes:
    """The request body that was sent in `encoding`, of at most `largest_bytes`."""
    if encoding in ("", "identity"):
        return body
    if encoding not in _DECOMPRESSORS:
        known = ", ".join(sorted(_DECOMPRESSORS))
        raise refusal(UNKNOWN_COMPRESSION_METHOD, f"Unknown Content-Encoding {encoding!r}: known are {known}")
    parts: list[bytes] = []
    room = largest_bytes
    rest = body
    try:
        while rest:
            frame = _DECOMPRESSORS[encoding]()
            pending = rest
            while not frame.eof:
                part = frame.decompress(pending, min(_STEP_BYTES, room + 1))
                if not part and not pending and not frame.eof:
                    raise refusal(CANNOT_DECOMPRESS, f"The {encoding} body ends in the middle of a frame")
                pending = b""
                room -= len(part)
                if room < 0:
                    raise refusal(QUERY_IS_TOO_LARGE, f"The body is larger than {largest_bytes} bytes decompressed")
                parts.append(part)
            rest = frame.unused_data or b""
    except (zlib.error, zstd.ZstdError, RuntimeError, EOFError) as error:
        raise refusal(CANNOT_DECOMPRESS, f"The {encoding} body cannot be decompressed: {error}") from error
    return b"".join(parts)


def accepted(accept_encoding: str) -> str | None:
    """The first encoding of an Accept-Encoding header that is known here, None for none."""
    for offer in accept_encoding.lower().split(","):
        name, _, quality = offer.partition(";")
        if name.strip() in _COMPRESSORS and quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            return name.strip()
    return None


def compressor(encoding: str) -> Compressor:
    """A new stream in an encoding that `accepted` named."""
    return _COMPRESSORS[encoding]()

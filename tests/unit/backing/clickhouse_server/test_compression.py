"""Bodies in HTTP's encodings, bounded."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backing.clickhouse_server.compression import accepted, compressor, decompress
from backing.clickhouse_server.errors import Refusal

ENCODINGS = [name for name in ("zstd", "gzip", "deflate", "lz4") if accepted(name)]
MANY = 1_000_000


def compressed(encoding: str, *parts: bytes) -> bytes:
    stream = compressor(encoding)
    return b"".join(stream.compress(part) for part in parts) + stream.flush()


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(parts=st.lists(st.binary(max_size=100), max_size=5))
def test_what_is_compressed_comes_back(encoding: str, parts: list[bytes]) -> None:
    """Law: compressing in parts and decompressing is the identity; so it is for frames one after the other."""
    whole = b"".join(parts)
    assert decompress(compressed(encoding, *parts), encoding, MANY) == whole
    if encoding != "deflate":
        assert decompress(compressed(encoding, *parts) * 3, encoding, MANY) == whole * 3


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_bound_counts_decompressed_bytes(encoding: str) -> None:
    """A body of the bound is taken, one byte more is refused, over several frames too."""
    body = compressed(encoding, bytes(MANY))
    assert decompress(body, encoding, MANY) == bytes(MANY)
    for largest_bytes, sent in ((MANY - 1, body), (0, body), (MANY, body + compressed(encoding, b"x"))):
        with pytest.raises(Refusal) as refused:
            decompress(sent, encoding, largest_bytes)
        assert (refused.value.status, refused.value.code) == (413, 229)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("damage", [lambda body: body[:-1], lambda body: body[:7], lambda body: b"no" + body])
def test_damaged_bodies_are_refused(encoding: str, damage: object) -> None:
    """A cut or foreign body is an error, never a shorter body."""
    assert callable(damage)
    with pytest.raises(Refusal) as refused:
        decompress(damage(compressed(encoding, b"abc" * 1_000)), encoding, MANY)
    assert refused.value.code == 271


def test_python_s_own_forms_are_understood() -> None:
    """gzip is gzip, deflate is zlib's form, and no encoding is the body itself."""
    assert decompress(gzip.compress(b"a"), "gzip", 1) == b"a"
    assert decompress(zlib.compress(b"a"), "deflate", 1) == b"a"
    assert decompress(b"abc", "", 0) == b"abc"
    assert decompress(b"abc", "identity", 0) == b"abc"


def test_an_unknown_encoding_names_the_known_ones() -> None:
    """The answer to `br` says what to send instead."""
    with pytest.raises(Refusal, match=r"'br'.*gzip") as refused:
        decompress(b"", "br", MANY)
    assert refused.value.code == 89


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        ("", None),
        ("br", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("br, GZIP;q=0.5, zstd", "gzip"),
        ("gzip;q=0, deflate", "deflate"),
        ("zstd, gzip", "zstd"),
    ],
)
def test_the_first_known_encoding_is_taken(header: str, encoding: str | None) -> None:
    """Clients list what they like best first."""
    assert accepted(header) == encoding

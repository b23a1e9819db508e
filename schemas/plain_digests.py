"""Digests of plain records in columns: of identities and of contents, the very ones that `schemas.canonical` and
`schemas.plain_tokens` make one by one.

Each is BLAKE2b (RFC 7693) of the MessagePack of the same values. A law holds both roads to the same digests.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.canonical import CONTENT_BYTES, IDENTITY_BYTES
from schemas.compiled import compiled
from schemas.plain_scan import (
    ALLOCATION,
    CONTENT_TYPE,
    CUSTOMER,
    DEVICE,
    ID,
    MESSAGE,
    MODEL,
    SESSION,
    SOURCE,
    TENANT,
    TIME,
    USER,
    Extents,
    Numbers,
    Octets,
    Scanned,
)

Words = NDArray[np.uint64]

_BLOCK_BYTES: Final = 128
_MESSAGE_BYTES: Final = 4_096
"""More than the packed texts and counts of a plain record take: eleven of 202 bytes, and eight numbers of 9."""

_START: Final = np.array(
    [
        0x6A09E667F3BCC908,
        0xBB67AE8584CAA73B,
        0x3C6EF372FE94F82B,
        0xA54FF53A5F1D36F1,
        0x510E527FADE682D1,
        0x9B05688C2B3E6C1F,
        0x1F83D9ABFB41BD6B,
        0x5BE0CD19137E2179,
    ],
    np.uint64,
)
_SIGMA: Final = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    ],
    np.uint64,
)
_ORDER: Final = tuple(
    np.array(texts)
    for texts in (
        (TENANT, CUSTOMER, SOURCE, ID),
        (TIME, CONTENT_TYPE),
        (SESSION, MODEL),
        (MESSAGE, USER),
        (DEVICE, ALLOCATION),
    )
)
"""The texts in the order in which they are packed: of an identity; of a content, its envelope's, and its data's before
the counts, before the hold, and after it."""

_ROUNDS: Final = 12
_NIL, _FALSE, _TRUE = 0xC0, 0xC2, 0xC3
_ARRAY: Final = 0x90
_SHORT_TEXT, _TEXT_8 = 0xA0, 0xD9
_SHORT_TEXT_MAX, _SMALL_MAX = 31, 127
_OF_DATA: Final = 13


def digests(scanned: Scanned, rows: Numbers) -> tuple[Octets, Octets]:
    """Identities and contents of rows, a digest each; all of them plain and of a named tenant."""
    identities = np.empty((len(rows), IDENTITY_BYTES), np.uint8)
    contents = np.empty((len(rows), CONTENT_BYTES), np.uint8)
    if len(rows):
        _digests(
            scanned.buffer,
            scanned.starts,
            scanned.sizes,
            scanned.counts,
            scanned.final,
            rows,
            identities,
            contents,
            *_ORDER,
        )
    return identities, contents


@compiled
def _digests(
    buffer: Octets,
    starts: Extents,
    sizes: Extents,
    counts: Numbers,
    final: NDArray[np.bool_],
    rows: Numbers,
    identities: Octets,
    contents: Octets,
    named: Numbers,
    of_envelope: Numbers,
    before_counts: Numbers,
    before_hold: Numbers,
    before_final: Numbers,
) -> None:
    message = np.zeros(_MESSAGE_BYTES, np.uint8)
    state = np.empty(8, np.uint64)
    for at in range(len(rows)):
        row = rows[at]
        message[0] = _ARRAY | len(named)
        end = _put_texts(message, 1, named, buffer, starts, sizes, row)
        _digest(message, end, state, identities, at)
        message[0] = _ARRAY | (len(of_envelope) + 1)
        end = _put_texts(message, 1, of_envelope, buffer, starts, sizes, row)
        message[end] = _ARRAY | _OF_DATA
        end = _put_texts(message, end + 1, before_counts, buffer, starts, sizes, row)
        for count in range(len(counts)):
            end = _put_number(message, end, counts[count, row])
        end = _put_texts(message, end, before_hold, buffer, starts, sizes, row)
        message[end] = _NIL  # the hold
        end = _put_texts(message, end + 1, before_final, buffer, starts, sizes, row)
        message[end] = _TRUE if final[row] else _FALSE
        _digest(message, end + 1, state, contents, at)


@compiled
def _put_texts(
    message: Octets, at: int, texts: Numbers, buffer: Octets, starts: Extents, sizes: Extents, row: int
) -> int:
    for place in range(len(texts)):
        at = _put_text(message, at, buffer, starts[texts[place], row], sizes[texts[place], row])
    return at


@compiled
def _put_text(message: Octets, at: int, buffer: Octets, start: int, size: int) -> int:
    if size < 0:
        message[at] = _NIL
        return at + 1
    if size <= _SHORT_TEXT_MAX:
        message[at] = _SHORT_TEXT | size
    else:
        message[at] = _TEXT_8
        at += 1
        message[at] = size
    at += 1
    for place in range(size):
        message[at + place] = buffer[start + place]
    return at + size


@compiled
def _put_number(message: Octets, at: int, value: int) -> int:
    if value <= _SMALL_MAX:
        message[at] = value
        return at + 1
    octets, mark = 1, 0xCC
    while octets < 8 and value >> (8 * octets):
        octets *= 2
        mark += 1
    message[at] = mark
    for place in range(octets):
        message[at + 1 + place] = (value >> (8 * (octets - 1 - place))) & 0xFF
    return at + 1 + octets


@compiled
def _digest(message: Octets, size: int, state: Words, into: Octets, row: int) -> None:
    """BLAKE2b without a key of `size` bytes, at least one, as long as a row of `into`."""
    octets = into.shape[1]
    padded = (size + _BLOCK_BYTES - 1) // _BLOCK_BYTES * _BLOCK_BYTES
    message[size:padded] = 0
    words = message.view(np.uint64)
    for place in range(8):
        state[place] = _START[place]
    state[0] ^= np.uint64(0x01010000 ^ octets)
    for begin in range(0, padded, _BLOCK_BYTES):
        last = begin + _BLOCK_BYTES >= padded
        # As numbers, not in an array: so they stay in the machine's registers.
        v0, v1, v2, v3 = state[0], state[1], state[2], state[3]
        v4, v5, v6, v7 = state[4], state[5], state[6], state[7]
        v8, v9, v10, v11 = _START[0], _START[1], _START[2], _START[3]
        v12, v13, v14, v15 = _START[4], _START[5], _START[6], _START[7]
        v12 ^= np.uint64(size if last else begin + _BLOCK_BYTES)
        if last:
            v14 = ~v14
        first = np.uint64(begin // 8)
        for turn in range(_ROUNDS):
            order = _SIGMA[turn]
            v0, v4, v8, v12 = _mix(v0, v4, v8, v12, words[first + order[0]], words[first + order[1]])
            v1, v5, v9, v13 = _mix(v1, v5, v9, v13, words[first + order[2]], words[first + order[3]])
            v2, v6, v10, v14 = _mix(v2, v6, v10, v14, words[first + order[4]], words[first + order[5]])
            v3, v7, v11, v15 = _mix(v3, v7, v11, v15, words[first + order[6]], words[first + order[7]])
            v0, v5, v10, v15 = _mix(v0, v5, v10, v15, words[first + order[8]], words[first + order[9]])
            v1, v6, v11, v12 = _mix(v1, v6, v11, v12, words[first + order[10]], words[first + order[11]])
            v2, v7, v8, v13 = _mix(v2, v7, v8, v13, words[first + order[12]], words[first + order[13]])
            v3, v4, v9, v14 = _mix(v3, v4, v9, v14, words[first + order[14]], words[first + order[15]])
        state[0] ^= v0 ^ v8
        state[1] ^= v1 ^ v9
        state[2] ^= v2 ^ v10
        state[3] ^= v3 ^ v11
        state[4] ^= v4 ^ v12
        state[5] ^= v5 ^ v13
        state[6] ^= v6 ^ v14
        state[7] ^= v7 ^ v15
    for place in range(octets):
        into[row, place] = (state[place // 8] >> np.uint64(8 * (place % 8))) & np.uint64(0xFF)


@compiled
def _mix(
    a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64, one: np.uint64, other: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    a = a + b + one
    d = d ^ a
    d = (d >> np.uint64(32)) | (d << np.uint64(32))
    c = c + d
    b = b ^ c
    b = (b >> np.uint64(24)) | (b << np.uint64(40))
    a = a + b + other
    d = d ^ a
    d = (d >> np.uint64(16)) | (d << np.uint64(48))
    c = c + d
    b = b ^ c
    return a, (b >> np.uint64(63)) | (b << np.uint64(1)), c, d

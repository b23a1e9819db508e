"""Plain records in columns: the bytes of a batch scanned once, without a value of Python for any of them.

A record is scanned if it is a `schemas.plain_tokens.PlainTokens` written as nearly every sender writes it: each field
once and not null, texts of printable ASCII without an escape, whole numbers without a point, a time in UTC with at most
six digits of fraction, and no hold. All others go the general way, which reads the rest of JSON and says what is wrong:
so this may refuse what is right, and must never accept what is not, nor read it otherwise. A law holds it to that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.compiled import compiled
from schemas.limits import COUNT_MAX, ID_MAX_CHARACTERS

Numbers = NDArray[np.int64]
Octets = NDArray[np.uint8]
Extents = NDArray[np.int32]

ID, SOURCE, CUSTOMER, TENANT, TIME, CONTENT_TYPE, SESSION, MODEL, MESSAGE, USER, DEVICE, ALLOCATION = range(12)
"""The texts of a record."""

COUNTS: Final = ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens")
"""Its counts, in the order of their columns."""

ABSENT: Final = -1
"""The size of a text that is not there."""

_TEXTS: Final = 12
_FINAL: Final = _TEXTS + len(COUNTS)
_SPECVERSION, _TYPE, _DATA = _FINAL + 1, _FINAL + 2, _FINAL + 3
_OF_DATA: Final = SESSION
"""From this field on up to `final` they stand in data."""

_KEYS: Final = (
    *("id", "source", "subject", "tenantid", "time", "datacontenttype"),
    *("session_id", "model", "message_id", "user_id", "device_id", "allocation_id"),
    *COUNTS,
    *("final", "specversion", "type", "data"),
)
_REQUIRED: Final = sum(
    1 << _KEYS.index(key)
    for key in (
        *("id", "source", "subject", "session_id", "model", "input_tokens", "output_tokens"),
        *("specversion", "type", "data"),
    )
)
_KEY_BYTES: Final = np.frombuffer("".join(_KEYS).encode(), np.uint8)
_KEY_SIZES: Final = np.array([len(key) for key in _KEYS])
_KEY_STARTS: Final = np.cumsum(_KEY_SIZES) - _KEY_SIZES
_SPEC_1_0: Final = np.frombuffer(b"1.0", np.uint8)
_TOKENS_USED: Final = np.frombuffer(b"session.tokens_used", np.uint8)
_TRUE: Final = np.frombuffer(b"true", np.uint8)
_FALSE: Final = np.frombuffer(b"false", np.uint8)
_DAYS_OF_MONTH: Final = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])

_COPIED: Final = np.array([32 <= octet <= 126 and octet not in b'"\\' for octet in range(256)])
"""Of each byte whether it stands in a text as it is."""

_RECORD_MAX_BYTES: Final = 4_096
"""More than a plain record takes that is not mostly white space."""
_BUFFER_MAX_BYTES: Final = 1 << 30
"""Places in a buffer are numbers of 32 bits."""

_FEW_DIGITS: Final = 16
_MEMBERS: Final = 32
_NO_TIME: Final = -1
_BETWEEN: Final = np.array([4, 7, 10, 13, 16])
_MARKS: Final = np.frombuffer(b"--T::", np.uint8)
_TO_SECONDS: Final = 19


@dataclass(slots=True)
class Scanned:
    """The records of a batch; of no meaning where it is not `plain`."""

    plain: NDArray[np.bool_]
    buffer: Octets
    """Where all records lie."""
    starts: Extents
    """By text and record: where it begins in the buffer."""
    sizes: Extents
    """By text and record: its bytes; ABSENT."""
    counts: Numbers
    """By count and record."""
    final: NDArray[np.bool_]
    times: Numbers
    """Microseconds; ABSENT where there is none."""


def scan(buffer: Octets, begins: Numbers, lengths: Numbers) -> Scanned:
    """Scans records, each by where it begins in a buffer and its bytes; one of no bytes is not plain."""
    count = len(begins)
    if len(buffer) > _BUFFER_MAX_BYTES:
        buffer = buffer[:0]
    found = Scanned(
        np.zeros(count, np.bool_),
        buffer,
        np.zeros((_TEXTS, count), np.int32),
        np.full((_TEXTS, count), ABSENT, np.int32),
        np.zeros((len(COUNTS), count), np.int64),
        np.ones(count, np.bool_),
        np.full(count, ABSENT),
    )
    if len(buffer):
        _scan(
            buffer,
            begins,
            lengths,
            found.starts,
            found.sizes,
            found.counts,
            found.final,
            found.times,
            found.plain,
            _RECORD_MAX_BYTES,
            ID_MAX_CHARACTERS,
            COUNT_MAX,
        )
    return found


@compiled
def _scan(
    buffer: Octets,
    begins: Numbers,
    lengths: Numbers,
    starts: Extents,
    sizes: Extents,
    counts: Numbers,
    final: NDArray[np.bool_],
    times: Numbers,
    plain: NDArray[np.bool_],
    record_max: int,
    id_max: int,
    count_max: int,
) -> None:
    guesses = np.zeros(_MEMBERS, np.int64)  # records of a sender have their fields in the same order
    for row in range(len(begins)):
        if lengths[row] > record_max:
            continue
        at, end = begins[row], begins[row] + lengths[row]
        plain[row] = _record(buffer, at, end, row, starts, sizes, counts, final, times, guesses, id_max, count_max)


@compiled
def _record(
    buffer: Octets,
    at: int,
    end: int,
    row: int,
    starts: Extents,
    sizes: Extents,
    counts: Numbers,
    final: NDArray[np.bool_],
    times: Numbers,
    guesses: Numbers,
    id_max: int,
    count_max: int,
) -> bool:
    at = _skip(buffer, at, end)
    if at >= end or buffer[at] != ord("{"):
        return False
    at += 1
    seen, member, inside = 0, 0, False
    while True:
        at = _skip(buffer, at, end)
        if at >= end or buffer[at] != ord('"'):
            return False
        if member >= _MEMBERS:
            return False
        key, close = _key(buffer, at + 1, end, guesses[member])
        if key < 0 or (seen >> key) & 1 or inside != (_OF_DATA <= key <= _FINAL):
            return False
        guesses[member] = key
        member += 1
        seen |= 1 << key
        at = _skip(buffer, close + 1, end)
        if at >= end or buffer[at] != ord(":"):
            return False
        at = _skip(buffer, at + 1, end)
        if at >= end:
            return False
        if key < _TEXTS or key in (_SPECVERSION, _TYPE):
            if buffer[at] != ord('"'):
                return False
            at += 1
            close = _closing(buffer, at, end)
            size = close - at
            if size < 1 or size > id_max:
                return False
            if key == _SPECVERSION:
                if not _is(buffer, at, size, _SPEC_1_0):
                    return False
            elif key == _TYPE:
                if not _is(buffer, at, size, _TOKENS_USED):
                    return False
            else:
                starts[key, row], sizes[key, row] = at, size
                if key == TIME:
                    times[row] = _instant(buffer, at, size)
                    if times[row] == _NO_TIME:
                        return False
            at = close + 1
        elif key < _FINAL:
            value, at = _count(buffer, at, end, count_max)
            if value < 0:
                return False
            counts[key - _TEXTS, row] = value
        elif key == _FINAL:
            if _is(buffer, at, min(len(_TRUE), end - at), _TRUE):
                at += len(_TRUE)
            elif _is(buffer, at, min(len(_FALSE), end - at), _FALSE):
                final[row] = False
                at += len(_FALSE)
            else:
                return False
        else:
            if buffer[at] != ord("{"):
                return False
            inside = True
            at += 1
            continue
        at = _skip(buffer, at, end)
        if inside and at < end and buffer[at] == ord("}"):
            inside = False
            at = _skip(buffer, at + 1, end)
        if at >= end:
            return False
        if buffer[at] == ord(","):
            at += 1
        elif buffer[at] == ord("}") and not inside:
            return bool(_skip(buffer, at + 1, end) == end and seen & _REQUIRED == _REQUIRED)
        else:
            return False


@compiled
def _skip(buffer: Octets, at: int, end: int) -> int:
    """Behind white space."""
    while at < end and (
        buffer[at] == ord(" ") or buffer[at] == ord("\n") or buffer[at] == ord("\r") or buffer[at] == ord("\t")
    ):
        at += 1
    return at


@compiled
def _closing(buffer: Octets, at: int, end: int) -> int:
    """Where a text that begins here has its closing quote; -1 if it holds what is not copied as it stands."""
    while at < end and _COPIED[buffer[at]]:
        at += 1
    return at if at < end and buffer[at] == ord('"') else -1


@compiled
def _is(buffer: Octets, at: int, size: int, text: Octets) -> bool:
    if size != len(text):
        return False
    for place in range(size):  # noqa: SIM110 - all() of a generator is not compiled
        if buffer[at + place] != text[place]:
            return False
    return True


@compiled
def _key(buffer: Octets, at: int, end: int, guess: int) -> tuple[int, int]:
    """Which field the name is that begins here, and where it has its closing quote; -1: none. `guess` is looked at
    first."""
    if _is_key(buffer, at, end, guess):
        return guess, at + _KEY_SIZES[guess]
    for key in range(len(_KEY_SIZES)):
        if _is_key(buffer, at, end, key):
            return key, at + _KEY_SIZES[key]
    return -1, at


@compiled
def _is_key(buffer: Octets, at: int, end: int, key: int) -> bool:
    size, start = _KEY_SIZES[key], _KEY_STARTS[key]
    if at + size >= end or buffer[at + size] != ord('"'):
        return False
    for place in range(size):  # noqa: SIM110 - as above
        if buffer[at + place] != _KEY_BYTES[start + place]:
            return False
    return True


@compiled
def _count(buffer: Octets, at: int, end: int, most: int) -> tuple[int, int]:
    """A whole number up to the most, and where it ends; below 0: it is none."""
    begin, value = at, 0
    while at < end and ord("0") <= buffer[at] <= ord("9") and at - begin <= _FEW_DIGITS:
        value = value * 10 + (buffer[at] - ord("0"))
        at += 1
    digits = at - begin
    if digits == 0 or digits > _FEW_DIGITS or value > most or (digits > 1 and buffer[begin] == ord("0")):
        return -1, at
    return value, at


@compiled
def _digits(buffer: Octets, at: int, size: int) -> int:
    value = 0
    for place in range(size):
        octet = buffer[at + place]
        if octet < ord("0") or octet > ord("9"):
            return -1
        value = value * 10 + (octet - ord("0"))
    return value


@compiled
def _instant(buffer: Octets, at: int, size: int) -> int:
    """Microseconds of 2026-11-20T10:15:30Z, with up to six digits of fraction; _NO_TIME for others."""
    if size < _TO_SECONDS + 1 or buffer[at + size - 1] != ord("Z"):
        return _NO_TIME
    for place in range(len(_BETWEEN)):
        if buffer[at + _BETWEEN[place]] != _MARKS[place]:
            return _NO_TIME
    year, month, day = _digits(buffer, at, 4), _digits(buffer, at + 5, 2), _digits(buffer, at + 8, 2)
    hour, minute, second = _digits(buffer, at + 11, 2), _digits(buffer, at + 14, 2), _digits(buffer, at + 17, 2)
    if year < 1970 or month < 1 or month > 12 or day < 1 or hour < 0 or hour > 23:
        return _NO_TIME
    if minute < 0 or minute > 59 or second < 0 or second > 59:
        return _NO_TIME
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if day > _DAYS_OF_MONTH[month] and not (leap and month == 2 and day == 29):
        return _NO_TIME
    fraction, digits = 0, size - _TO_SECONDS - 2
    if digits >= 0:
        if digits == 0 or digits > 6 or buffer[at + _TO_SECONDS] != ord("."):
            return _NO_TIME
        fraction = _digits(buffer, at + _TO_SECONDS + 1, digits)
        if fraction < 0:
            return _NO_TIME
        for _ in range(6 - digits):
            fraction *= 10
    # Days since 1970, by years that begin in March (Howard Hinnant, chrono-Compatible Low-Level Date Algorithms).
    early = 1 if month <= 2 else 0
    shifted = year - early
    of_era = shifted % 400
    of_year = (153 * (month + 12 * early - 3) + 2) // 5 + day - 1
    days = shifted // 400 * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
    return ((days * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000_000) + fraction

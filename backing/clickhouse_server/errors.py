"""ClickHouse's errors as this server answers them: a code, its name, and the HTTP status ClickHouse gives it.

The engine reports its errors as text; `from_engine` reads the code out of it. What this server refuses by itself
carries the code that a ClickHouse would answer.
"""

from __future__ import annotations

import re
from typing import Final

BAD_ARGUMENTS: Final = (36, "BAD_ARGUMENTS")
NOT_IMPLEMENTED: Final = (48, "NOT_IMPLEMENTED")
SYNTAX_ERROR: Final = (62, "SYNTAX_ERROR")
UNKNOWN_FORMAT: Final = (73, "UNKNOWN_FORMAT")
UNKNOWN_COMPRESSION_METHOD: Final = (89, "UNKNOWN_COMPRESSION_METHOD")
UNKNOWN_SETTING: Final = (115, "UNKNOWN_SETTING")
READONLY: Final = (164, "READONLY")
REQUIRED_PASSWORD: Final = (194, "REQUIRED_PASSWORD")
QUERY_IS_TOO_LARGE: Final = (229, "QUERY_IS_TOO_LARGE")
CANNOT_DECOMPRESS: Final = (271, "CANNOT_DECOMPRESS")
INTO_OUTFILE_NOT_ALLOWED: Final = (358, "INTO_OUTFILE_NOT_ALLOWED")
SESSION_NOT_FOUND: Final = (372, "SESSION_NOT_FOUND")
SESSION_IS_LOCKED: Final = (373, "SESSION_IS_LOCKED")
INVALID_SESSION_TIMEOUT: Final = (374, "INVALID_SESSION_TIMEOUT")
ACCESS_DENIED: Final = (497, "ACCESS_DENIED")
SET_NON_GRANTED_ROLE: Final = (512, "SET_NON_GRANTED_ROLE")
AUTHENTICATION_FAILED: Final = (516, "AUTHENTICATION_FAILED")
STD_EXCEPTION: Final = (1001, "STD_EXCEPTION")

# As ClickHouse's own table has it (src/Server/HTTP/exceptionCodeToHTTPStatus.cpp); every other code is a 500.
_CODES_BY_STATUS: Final[dict[int, tuple[int, ...]]] = {
    400: (6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321, 376, 427, 441, 675, 676),
    401: (194,),
    403: (192, 193, 497, 512, 516),
    404: (46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511),
    408: (159,),
    411: (381,),
    413: (229,),
    415: (779,),
    501: (48,),
    503: (76, 209, 439),
}
_STATUS_BY_CODE: Final = {code: status for status, codes in _CODES_BY_STATUS.items() for code in codes}

_CODE: Final = re.compile(r"Code: (\d+)\. ")
# The engine's front wraps some errors of the engine once more.
_WRAPPED: Final = re.compile(r"^Code: \d+\. DB::Exception: (?=Code: \d+\. DB::Exception: )")
_VERSION: Final = re.compile(r" \(version [^)]*\)\.?(?: \([A-Z_0-9]+\))?$")
_MESSAGE_MAX_CHARACTERS: Final = 100_000


class Refusal(Exception):
    """A request that is answered with an error of ClickHouse's: its code and its whole text, without the version."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @property
    def status(self) -> int:
        """The HTTP status of its code."""
        return _STATUS_BY_CODE.get(self.code, 500)

    def body(self, version: str) -> bytes:
        """The body of the answer, with the server's version where ClickHouse has it."""
        return f"{self.text} (version {version})\n".encode(errors="surrogateescape")


def refusal(kind: tuple[int, str], detail: str) -> Refusal:
    """What this server refuses by itself."""
    code, name = kind
    return Refusal(code, f"Code: {code}. DB::Exception: {detail}. ({name})")


def from_engine(message: str) -> Refusal:
    """The error that the engine reported in `message`; one without a code is a STD_EXCEPTION."""
    message = message[:_MESSAGE_MAX_CHARACTERS].strip()
    found = _CODE.search(message)
    if found is None:
        return refusal(STD_EXCEPTION, message.rstrip("."))
    return Refusal(int(found[1]), _VERSION.sub("", _WRAPPED.sub("", message[found.start() :])))

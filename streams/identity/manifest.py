"""The manifest: which runs make up the index, and up to which position of the ledger they are complete.

It is self-consistent by itself: its runs hold exactly what the ledger booked before its position. What was added after
it is folded from the ledger again: no journal of additions exists, and a crash loses nothing but the work of folding.

That is also why a zombie does no harm. A stopped process that wakes and writes its own manifest over the new owner's
sets the index back to an earlier position of the same ledger, with the runs of that position: still true. Its runs
are still there unless it slept longer than the grace of retired runs; then the manifest names files that are gone, and
opening discards it (`Damaged`) rather than believe a part of it.

One JSON file, `manifest.json`. `ledger_id` is the identity (topic id) of the ledger that was folded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from streams.identity.files import Damaged, replace_atomically

FORMAT = 1
MANIFEST_NAME = "manifest.json"


class Position(msgspec.Struct, frozen=True):
    """How far the ledger was folded: the next ledger offset to read and the next `seq` to expect."""

    ledger_offset: int
    seq: int


class RunEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run: its file's name, how many identities it holds, and the CRC-32 of the whole file."""

    name: str
    count: int
    checksum: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Runs from the oldest to the newest, complete up to `position`."""

    format: int
    ledger_id: str
    position: Position
    runs: tuple[RunEntry, ...]


_decode: Final = msgspec.json.Decoder(Manifest).decode
"""Made here, in one thread: msgspec crashes where two threads make the first one of a type, and lanes open at once."""


def read_manifest(directory: Path) -> Manifest | None:
    """The manifest that stands, or None if there is none; `Damaged` if it can not be understood."""
    try:
        content = (directory / MANIFEST_NAME).read_bytes()
    except FileNotFoundError:
        return None
    try:
        manifest = _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"{MANIFEST_NAME} is not a manifest: {error}") from error
    if manifest.format != FORMAT:
        raise Damaged(f"{MANIFEST_NAME} has format {manifest.format}, this release reads {FORMAT}")
    return manifest


def publish_manifest(directory: Path, manifest: Manifest) -> None:
    """Make `manifest` the one that stands; its runs have to be in place before."""
    replace_atomically(directory / MANIFEST_NAME, msgspec.json.encode(manifest))

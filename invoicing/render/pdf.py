"""An invoice as a PDF, laid out by Typst: fonts embedded, long lists over pages with their head repeated, tagged.

The same document gives the same bytes on every machine: fonts are those in the wheel, and the file's date is when the
invoice was made final (or drafted). What a customer wrote reaches Typst as data, never as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from importlib.resources import files
from typing import Any

import orjson
import typst

from invoicing.by_day import Day
from invoicing.render.sheet import sheet
from invoicing.seller import Seller


def pdf(document: Mapping[str, Any], days: Iterable[Day] = (), seller: Seller | None = None) -> bytes:
    """The invoice as a file."""
    template = (files("invoicing.render") / "templates" / "invoice.typ").read_bytes()
    drawn = typst.compile(
        template,
        format="pdf",
        sys_inputs={"sheet": orjson.dumps(asdict(sheet(document, days, seller))).decode()},
        ignore_system_fonts=True,
        timestamp=datetime.fromisoformat(document["finalized_at"] or document["created_at"]).replace(microsecond=0),
    )
    assert isinstance(drawn, bytes)
    return drawn

"""An invoice as one HTML page, with its style in it: nothing is fetched when it is opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from invoicing.by_day import Day
from invoicing.render.sheet import sheet
from invoicing.seller import Seller

_TEMPLATES: Final = Environment(
    loader=PackageLoader("invoicing.render", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def html(document: Mapping[str, Any], days: Iterable[Day] = (), seller: Seller | None = None) -> str:
    """The invoice as a page; everything that a customer wrote is escaped."""
    return _TEMPLATES.get_template("invoice.html.j2").render(sheet=sheet(document, days, seller))

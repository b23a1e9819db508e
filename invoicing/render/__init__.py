"""An invoice to read: as text, as an HTML page, as a PDF. In: the invoice's document; out: text or bytes. Pure."""

from invoicing.render.html import html
from invoicing.render.pdf import pdf
from invoicing.render.sheet import Sheet, sheet
from invoicing.render.text import text

__all__ = ["Sheet", "html", "pdf", "sheet", "text"]

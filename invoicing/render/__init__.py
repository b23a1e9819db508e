"""An invoice to read: as text, as an HTML page, as a PDF. In: the invoice's document; out: text or bytes. Pure."""

from invoicing.render.html import html
from invoicing.render.pdf import pdf
from invoicing.render.sheet import Day, Seller, Sheet, sheet
from invoicing.render.text import text

__all__ = ["Day", "Seller", "Sheet", "html", "pdf", "sheet", "text"]

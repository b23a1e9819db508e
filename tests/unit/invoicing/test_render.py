"""An invoice to read: text, page and PDF say the same, whatever a customer is called."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from pypdf import PdfReader

from invoicing.by_day import Day
from invoicing.render import html, pdf, text
from invoicing.render.sheet import exact, grouped
from invoicing.seller import Seller
from schemas.invoice import Draft, Identity, Line, Tier
from schemas.money import NANOS
from schemas.period import Period, parse_time

OCTOBER = Period(parse_time("2026-10-01T00:00:00Z"), parse_time("2026-11-01T00:00:00Z"))
SELLER = Seller("Acme AI", "1 Way\nTown", "US-1", "IBAN DE00 1234.")
EVIL = '#panic("markup") <script>alert(1)</script> $x$ *b* @ref \\'


def invoice(currency: str = "USD", lines: int = 1, **changes: Any) -> dict[str, Any]:
    """An open invoice: a fee, usage (the first line in two tiers), what the balance paid, tax."""
    tiers = (Tier("first", 10 * NANOS, "0.5", 5 * NANOS), Tier("beyond", 2 * NANOS, "0.25", NANOS // 2))
    usage = [
        Line("usage", f"Tokens {at}", 1_234_567_890_000 + at, OCTOBER, quantity=12 * NANOS, tiers=tiers[: 2 * (not at)])
        for at in range(lines)
    ]
    draft = Draft(
        Identity("t", "cust-42", currency, OCTOBER),
        "prepaid",
        (
            Line("fee", "Pro", 20 * NANOS, OCTOBER),
            *usage,
            Line("credit", "Paid from the balance", -4 * NANOS, OCTOBER),
            Line("tax", "VAT 19 %", 3 * NANOS, OCTOBER),
        ),
        bill_to={"name": "Größe & Söhne", "address": "Straße 1\nBerlin", "email": "a@b.example"},
    )
    stands = {"state": "open", "number": "INV-000007", "finalized_at": "2026-11-03T10:00:00Z"}
    return {**draft.document(parse_time("2026-11-02T00:00:00Z")), **stands, "due_at": "2026-11-17T00:00:00Z", **changes}


def words(drawn: bytes) -> str:
    """What a PDF says, in one line."""
    return re.sub(r"\s+", " ", " ".join(page.extract_text() for page in PdfReader(io.BytesIO(drawn)).pages))


SAID = (
    "INV-000007", "Größe & Söhne", "Berlin", "cust-42", "2026-10-01 to 2026-10-31", "2026-11-17", "1,234.57", "-4.00",
    "1,253.57", "Acme AI", "Please pay 1,253.57 USD by 2026-11-17, naming INV-000007. IBAN DE00 1234.", "2026-10-05",
    "0.123456789",
)  # fmt: skip


def test_all_three_say_the_same() -> None:
    """Names, period, amounts, how to pay, and usage by day."""
    days = [Day("2026-10-05", "Tokens", "1234", "0.123456789")]
    page = html(invoice(), days, SELLER).replace("&amp;", "&")
    for said in SAID:
        assert said in text(invoice(), days, SELLER)
        assert said in page
        assert said in words(pdf(invoice(), days, SELLER))


@pytest.mark.parametrize(
    ("currency", "amount"), [("JPY", "1,235"), ("USD", "1,234.57"), ("BHD", "1,234.568"), ("CLF", "1,234.5679")]
)
def test_amounts_have_the_places_of_their_currency(currency: str, amount: str) -> None:
    """ISO 4217's minor unit, thousands apart."""
    assert f" {amount}\n" in text(invoice(currency))
    assert f">{amount}<" in html(invoice(currency))


def test_a_long_name_leaves_amounts_in_their_column() -> None:
    """It goes on in the next line."""
    name = "Output tokens of a model with a very long name (price-of-a-model-with-a-very-long-name-output)"
    document = invoice()
    document["lines"][1]["description"] = name
    lines = text(document).splitlines()
    assert re.sub(r"\s+", " ", text(document)).find("with a very long name (price-of") > 0
    assert {len(line) for line in lines if line.endswith(("1,234.57", "20.00", "-4.00"))} == {96}


def test_what_a_customer_wrote_is_text_and_no_markup() -> None:
    """Neither HTML nor Typst reads it."""
    evil = invoice(bill_to={"name": EVIL}, customer=EVIL)
    assert "<script>" not in html(evil)
    assert 'panic("markup")' in words(pdf(evil))


def test_a_long_invoice_has_its_head_on_every_page_and_no_line_is_lost() -> None:
    """Five hundred lines: numbered pages, each with the names of its columns."""
    pages = PdfReader(io.BytesIO(pdf(invoice(lines=500)))).pages
    assert len(pages) > 5
    said = [page.extract_text() for page in pages]
    assert all("Quantity" in page and f"{at} / {len(pages)}" in page for at, page in enumerate(said[:-1], 1))
    assert [at for at in range(500) if not re.search(rf"Tokens {at}\b", "\n".join(said))] == []


def test_a_pdf_brings_its_fonts_and_is_the_same_every_time() -> None:
    """Whoever opens it, whoever makes it."""
    drawn = pdf(invoice(finalized_at="2026-11-03T10:00:00.123456Z"))
    assert drawn == pdf(invoice(finalized_at="2026-11-03T10:00:00.123456Z"))
    resources: Any = PdfReader(io.BytesIO(drawn)).pages[0]["/Resources"]
    fonts = resources["/Font"]
    descriptors = [font.get_object()["/DescendantFonts"][0].get_object()["/FontDescriptor"] for font in fonts.values()]
    assert descriptors
    assert all({"/FontFile2", "/FontFile3"} & set(descriptor.get_object()) for descriptor in descriptors)


@pytest.mark.parametrize("state", ["draft", "void", "paid"])
def test_who_need_not_pay_is_not_asked_to(state: str) -> None:
    """A draft is no invoice yet, a void one none any more."""
    document = invoice(state=state, number=None if state == "draft" else "INV-000007")
    assert "Please pay" not in text(document, seller=SELLER)
    assert f"({state})" in text(document)


def test_a_price_without_steps_shows_its_unit_price_once() -> None:
    """Steps are shown where there is more than one."""
    shown = text(invoice(lines=2))
    assert shown.count("beyond") == 1


@pytest.mark.parametrize(
    ("decimal", "currency", "shown"),
    [("5", "USD", "5.00"), ("0.5", "BHD", "0.500"), ("1234", "JPY", "1,234"), ("-0.123456789", "USD", "-0.123456789")],
)
def test_an_exact_amount_has_at_least_the_places_of_its_currency(decimal: str, currency: str, shown: str) -> None:
    """Steps of a price and amounts of a day are not rounded."""
    assert exact(decimal, currency) == shown


@pytest.mark.parametrize(
    ("decimal", "shown"),
    [("0", "0"), ("-0.5", "-0.5"), ("999", "999"), ("1000", "1,000"), ("-1234567.50", "-1,234,567.50")],
)
def test_thousands_are_kept_apart(decimal: str, shown: str) -> None:
    """The fraction is left as it is."""
    assert grouped(decimal) == shown


def test_no_word_is_too_long_for_its_column() -> None:
    """Names of two hundred characters stay on the page, on lines of their own column, and are copied as one word."""
    name = "".join(f"w{at:03}" for at in range(50))
    to = {"name": name, "address": name, "email": f"{name}@x.example"}
    drawn = pdf(invoice(customer=name, bill_to=to, number=None), [Day("2026-10-05", name, "1", "2")], SELLER)
    said = "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(drawn)).pages)
    assert max(map(len, re.findall(r"w\d\w*", said))) < 120
    assert re.sub(r"\s", "", said).count(name) == 5

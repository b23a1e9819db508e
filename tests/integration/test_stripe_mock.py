"""What we ask of Stripe, judged by Stripe's own stripe-mock: every call and parameter is one that its API has.

It is built with Go where that is on the PATH (some minutes the first time, then from Go's cache). It keeps nothing: its
answers are examples, so it can judge what is asked, not what becomes of it; for that there is test_stripe.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from backing import ports
from invoicing.stripe.gateway import StripeGateway
from schemas.errors import Conflict
from schemas.invoice import Draft, Identity, Line
from schemas.money import NANOS
from schemas.period import Period, parse_time
from tests.deployment import until
from tests.integration.stripe_peer import answers

MODULE = "github.com/stripe/stripe-mock@v0.203.0"
BUILD_S = 900
OCTOBER = Period(parse_time("2026-10-01T00:00:00Z"), parse_time("2026-11-01T00:00:00Z"))


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """stripe-mock; its address."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("stripe-mock is built with Go, and there is none on the PATH")
    folder: Path = tmp_path_factory.mktemp("go")
    built = subprocess.run(
        [go, "install", MODULE],
        env={**os.environ, "GOBIN": str(folder)},
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    if built.returncode:
        pytest.skip(f"stripe-mock cannot be fetched here: {built.stderr[-300:]}")
    port = ports.choose(())
    process = subprocess.Popen(
        [folder / "stripe-mock", "-http-addr", f"127.0.0.1:{port}", "-strict-version-check=false"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: answers(port) or process.poll() is not None)
        assert process.poll() is None
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
async def gateway(mock: str) -> AsyncIterator[StripeGateway]:
    """Refused is refused: no call is tried again."""
    async with StripeGateway("sk_test_123", mock, pauses_seconds=()) as made:
        yield made


async def test_an_invoice_is_pushed_by_calls_that_stripe_has(gateway: StripeGateway) -> None:
    """Found, drafted, each line put on it, finalized: only then it is told that the example's total is not ours."""
    lines = (Line("fee", "Pro", 20 * NANOS, OCTOBER), Line("credit", "Paid from the balance", -7 * NANOS, OCTOBER))
    document = Draft(Identity("t", "c", "USD", OCTOBER), "postpaid", lines).document(OCTOBER.end)
    name = await gateway.customer("t", "c", {"name": "C", "email": "c@x.example"})
    assert name.startswith("cus_")
    with pytest.raises(Conflict) as told:
        await gateway.push_invoice("t", {**document, "state": "open", "number": "INV-000001"}, name)
    assert told.value.reason == "stripe_total", told.value


async def test_what_else_is_asked_is_asked_as_stripe_has_it(gateway: StripeGateway) -> None:
    """Intents, refunds, the end of invoices, and all of them."""
    payment = {"payment_intent_id": "pi_o", "customer": "c", "order_id": "o", "amount": "12.5", "currency": "USD"}
    intent = await gateway.payment_intent("t", payment, "cus_1")
    assert intent.stripe_id.startswith("pi_")
    assert (await gateway.refund("t", "r", intent.stripe_id, "1", "USD")).startswith("re_")
    await gateway.settle_invoice("in_1")
    await gateway.void_invoice("in_1")
    assert [pushed async for pushed in gateway.invoices()]


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v1/invoices/in_1/void", {}),
        ("/v1/invoices/in_1/pay", {"paid_out_of_band": "true"}),
        ("/v1/invoices/in_1", {"metadata[tollgate_settled]": "yes"}),
        ("/v1/credit_notes", {"invoice": "in_1", "amount": "100", "out_of_band_amount": "100"}),
    ],
)
async def test_the_calls_that_examples_do_not_lead_to_are_there(mock: str, path: str, form: dict[str, str]) -> None:
    """As the gateway makes them of an invoice in another state; one that Stripe does not know is refused."""
    headers = {"Authorization": "Bearer sk_test_123"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.post(mock + path, data=form) as taken:
            assert taken.status == 200, await taken.text()
        async with session.post(mock + path, data={**form, "no_such_thing": "1"}) as refused:
            answer: Any = await refused.json()
            assert (refused.status, answer["error"]["type"]) == (400, "invalid_request_error")

"""A Stripe on this machine, over HTTP: `python -m tests.fakes.stripe_peer PORT`.

localstripe, with what our calls need and it lacks: idempotency keys, finalizing an invoice, items put on an invoice by
its id, payment out of band, metadata everywhere; and with trouble on request: `POST /_peer/trouble` with a list of
`{"status": 429|500|408, "after": bool}` for the next calls that make something (`after`: done, and its answer lost;
408: no answer for SILENT_SECONDS; 0: no trouble for this one).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from localstripe import resources  # type: ignore[import-untyped]
from localstripe.server import app, unflatten_data  # type: ignore[import-untyped]

SILENT = 408
SILENT_SECONDS = 1.0

TROUBLE: list[dict[str, Any]] = []
ANSWERS: dict[str, tuple[int, bytes]] = {}
CALLS: list[str] = []

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def peer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Trouble, then idempotency, then localstripe."""
    if request.method != "POST" or not request.path.startswith("/v1/"):
        return await handler(request)
    CALLS.append(request.path)
    trouble = TROUBLE.pop(0) if TROUBLE else None
    if trouble and not trouble["status"]:
        trouble = None
    if trouble and trouble["status"] == SILENT:
        if trouble["after"]:
            await _answered_once(request, handler)
        await asyncio.sleep(SILENT_SECONDS)
        raise web.HTTPRequestTimeout
    if trouble and not trouble["after"]:
        return _refusal(trouble["status"])
    answered = await _answered_once(request, handler)
    return _refusal(trouble["status"]) if trouble else _response(answered)


async def _answered_once(request: web.Request, handler: Handler) -> tuple[int, bytes]:
    """Of an idempotency key that was seen before, the answer it had."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and key in ANSWERS:
        return ANSWERS[key]
    answered = await _answered(request, handler)
    if key is not None and answered[0] < 500:
        ANSWERS[key] = answered
    return answered


async def _answered(request: web.Request, handler: Handler) -> tuple[int, bytes]:
    response = await handler(request)
    assert isinstance(response, web.Response)
    made = json.loads(response.body or b"{}")  # type: ignore[arg-type]
    if request.path == "/v1/invoiceitems" and made.get("invoice"):
        item = resources.InvoiceItem._api_retrieve(made["id"])
        resources.Invoice._api_retrieve(made["invoice"]).lines._list.append(resources.InvoiceLineItem(item))
    return response.status, json.dumps(made).encode()


def _response(answered: tuple[int, bytes]) -> web.Response:
    return web.Response(status=answered[0], body=answered[1], content_type="application/json")


def _refusal(status: int) -> web.Response:
    return web.json_response({"error": {"type": "api_error", "message": "trouble"}}, status=status)


async def create(request: web.Request) -> web.Response:
    """POST /v1/invoices: an empty draft; its lines are put on it by name."""
    form = unflatten_data(await request.post())
    invoice = resources.Invoice(
        customer=form["customer"], metadata=form["metadata"], description=form["description"], simulation=True
    )
    invoice.currency = form["currency"]
    return web.json_response(invoice._export())


async def finalize(request: web.Request) -> web.Response:
    """POST /v1/invoices/{id}/finalize."""
    invoice = resources.Invoice._api_retrieve(request.match_info["id"])
    if invoice.status == "draft":
        invoice._draft = False
        invoice.status_transitions["finalized_at"] = int(time.time())
    return web.json_response(invoice._export())


async def pay(request: web.Request) -> web.Response:
    """POST /v1/invoices/{id}/pay, out of band too."""
    invoice = resources.Invoice._api_retrieve(request.match_info["id"])
    if "paid_out_of_band" not in await request.post():
        return web.json_response(resources.Invoice._api_pay_invoice(invoice.id)._export())
    intent = resources.PaymentIntent(amount=invoice.total, currency=invoice.currency, customer=invoice.customer)
    intent.payment_method, intent.latest_charge = "out_of_band", _Settled("ch_out_of_band")
    invoice.payment_intent = intent.id
    return web.json_response({**invoice._export(), "status": "paid"})


async def void(request: web.Request) -> web.Response:
    """POST /v1/invoices/{id}/void, also of one that nobody tried to pay."""
    invoice = resources.Invoice._api_retrieve(request.match_info["id"])
    invoice._voided = True
    return web.json_response(invoice._export())


async def credit(request: web.Request) -> web.Response:
    """POST /v1/credit_notes: of an invoice that is paid, for all of it."""
    form = unflatten_data(await request.post())
    invoice = resources.Invoice._api_retrieve(form["invoice"])
    if invoice.status != "paid" or int(form["out_of_band_amount"]) != int(form["amount"]):
        return _refusal(400)
    invoice.post_payment_credit_notes_amount = int(form["amount"])
    return web.json_response({"id": f"cn_{invoice.id}", "object": "credit_note", "amount": int(form["amount"])})


class _Settled(str):
    """A charge that was made elsewhere; exported as its id."""

    __slots__ = ()
    status = "succeeded"
    captured = True


async def trouble(request: web.Request) -> web.Response:
    """POST /_peer/trouble: what the next calls meet."""
    TROUBLE[:] = await request.json()
    return web.Response()


async def calls(_: web.Request) -> web.Response:
    """GET /_peer/calls: every call that was to make something."""
    return web.json_response(CALLS)


async def forget(_: web.Request) -> web.Response:
    """POST /_peer/forget: idempotency keys are a day old."""
    ANSWERS.clear()
    return web.Response()


ADDED: dict[str, tuple[Handler, str]] = {
    "/v1/invoices": (create, "it makes one of all that is pending; we put lines on it by name"),
    "/v1/invoices/{id}/finalize": (finalize, "it has no such call"),
    "/v1/invoices/{id}/pay": (pay, "it knows no payment out of band"),
    "/v1/invoices/{id}/void": (void, "it voids only what somebody tried to pay"),
    "/v1/credit_notes": (credit, "it has no credit notes"),
}
"""The calls of ours that localstripe does not answer, and why; all others are its own."""


async def serve(port: int) -> None:
    """Until it is stopped."""
    resources.Store.dump_to_disk = lambda self: None
    served = web.Application(middlewares=[peer, *app.middlewares[:2]])
    served.router.add_post("/_peer/trouble", trouble)
    served.router.add_post("/_peer/forget", forget)
    served.router.add_get("/_peer/calls", calls)
    for path, (call, _) in ADDED.items():
        served.router.add_post(path, call)
    for route in app.router.routes():
        if route.method != "HEAD" and route.resource is not None:
            served.router.add_route(route.method, route.resource.canonical, route.handler)
    runner = web.AppRunner(served, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))

"""Automatic top-up: a wallet below its customer's threshold asks for payment, at most once a cool-off."""

from __future__ import annotations

from typing import Final

from rating.orders import PENDING
from rating.turn import Turn
from schemas.documents import PAYMENT
from schemas.money import format_nanos
from schemas.period import SECOND, format_time

PREFIX: Final = "topup_"


def is_due(turn: Turn) -> bool:
    """Whether the wallet is to ask for payment now."""
    account = turn.account
    terms = account.terms
    if not terms.top_up_amount or account.balance >= terms.top_up_below or not account.currency or account.closed_at:
        return False
    return not account.topped_up_at or now_of(turn) - account.topped_up_at >= max(terms.top_up_cool_off, SECOND)


def now_of(turn: Turn) -> int:
    """The customer's time: its test clock's, or when Kafka received the event, however late that came."""
    return turn.account.clock or turn.received_at


def charged(turn: Turn, before: int) -> None:
    """After whatever took from a wallet that had `before`: that it has no more is told once, and payment asked for."""
    account = turn.account
    if account.balance < 0 <= before:
        turn.emit(
            "wallet.insufficient_funds",
            {
                "user_id": account.customer,
                "balance": format_nanos(account.balance),
                "currency": account.currency,
                "transaction_id": turn.event.id,
            },
        )
    ask_for_top_up(turn)


def ask_for_top_up(turn: Turn) -> None:
    """Asks for payment where that is due: a payment intent, and the event that tells of it."""
    if not is_due(turn):
        return
    account, at = turn.account, now_of(turn)
    account.topped_up_at = at
    intent_id = f"{PREFIX}{at}_{account.customer}"[:200]
    amount = format_nanos(account.terms.top_up_amount)
    body = {
        "object": "intent",
        "payment_intent_id": intent_id,
        "status": PENDING,
        "amount": amount,
        "currency": account.currency,
        "reason": "auto_topup",
        "created_at": format_time(at),
        "updated_at": format_time(at),
    }
    turn.put(PAYMENT, intent_id, body)
    turn.emit(
        "payment.intent.created",
        {
            "payment_intent_id": intent_id,
            "user_id": account.customer,
            "amount": amount,
            "currency": account.currency,
            "reason": "auto_topup",
            "balance": format_nanos(account.balance),
            "below": format_nanos(account.terms.top_up_below),
        },
    )

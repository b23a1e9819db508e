"""Credits are burnt in their order and scope, debt is paid first, and nothing is made or lost on the way."""

from __future__ import annotations

import pytest

from rating.wallet import (
    burn_first,
    charge,
    check_balance,
    check_debt,
    check_room_for,
    credit,
    expire,
    settle_currency,
    take_back,
)
from schemas.account import PAID, Account, Grant, new_account
from schemas.errors import InvalidInput
from schemas.limits import ACCOUNT_MAX_BYTES, AMOUNT_MAX_NANOS


def grant(
    name: str, amount: int, *, priority: int = 0, expires: int = 0, at: int = 0, scope: tuple[str, ...] = ()
) -> Grant:
    return Grant(name, amount, amount, priority, expires, at, PAID, scope)


def account(*grants: Grant) -> Account:
    made = new_account("t", "c")
    for one in grants:
        credit(made, one)
    return made


def left(made: Account) -> dict[str, int]:
    return {one.credit_id: one.remaining for one in made.grants}


def test_credits_burn_by_priority_then_expiry_then_age_then_name() -> None:
    """Lower priority first, then what expires first (never comes last), then the older, then by name."""
    made = account(
        grant("never", 1, at=1),
        grant("b", 1, expires=9, at=3),
        grant("a", 1, expires=9, at=3),
        grant("older", 1, expires=9, at=2),
        grant("sooner", 1, expires=5, at=9),
        grant("urgent", 1, priority=-1, at=9),
        grant("last", 1, priority=1, expires=1),
    )
    order = [charge(made, 1, [("m", 1)])[0][0] for _ in range(7)]
    assert order == ["urgent", "sooner", "older", "a", "b", "never", "last"]
    assert (made.balance, made.grants) == (0, [])


def test_a_scoped_credit_pays_for_its_meters_alone() -> None:
    """What a scope does not name is paid by the next credit, or becomes debt while the scoped one stays."""
    made = account(grant("chat", 10, scope=("chats",)), grant("any", 3, at=1))
    assert charge(made, 5, [("tokens", 5)]) == [("any", 3)]
    assert (made.balance, left(made)) == (8, {"chat": 10})
    assert charge(made, 4, [("chats", 3), ("tokens", 1)]) == [("chat", 3)]
    assert (made.balance, left(made)) == (4, {"chat": 7})


def test_one_charge_burns_each_credit_once_in_its_list() -> None:
    """A credit that paid for two meters of a charge is named once, with the sum."""
    made = account(grant("a", 4), grant("b", 10, at=1))
    assert charge(made, 9, [("x", 3), ("y", 6)]) == [("a", 4), ("b", 5)]


@pytest.mark.parametrize("total", [0, 1, 9, 10, 11])
def test_the_short_way_is_the_long_way(total: int) -> None:
    """Where the first credit pays alone, `burn_first` does what `charge` does; else it does nothing."""
    short, long = account(grant("a", 10)), account(grant("a", 10))
    burnt = burn_first(short, total)
    if burnt is None:
        assert (short.balance, left(short)) == (10, {"a": 10})
        assert total >= 10
    elif total:
        assert burnt == charge(long, total, [("m", total)])
        assert short == long


def test_a_new_credit_pays_debt_first_but_a_scoped_one_does_not() -> None:
    """What remains of a credit is really there; a scoped one cannot know what the debt was for."""
    made = account()
    charge(made, 5, [("m", 5)])
    credit(made, grant("scoped", 3, scope=("m",)))
    assert (made.balance, left(made)) == (-2, {"scoped": 3})
    credit(made, grant("some", 2))
    assert (made.balance, left(made)) == (0, {"scoped": 3})
    credit(made, grant("more", 4))
    assert (made.balance, left(made)) == (4, {"scoped": 3, "more": 1})


def test_expiry_takes_what_is_left_and_at_its_very_moment() -> None:
    """A credit is gone at its expiry, not before; one without expiry never."""
    made = account(grant("a", 5, expires=10), grant("b", 5, expires=11), grant("c", 5))
    charge(made, 2, [("m", 2)])
    assert expire(made, 9) == []
    assert expire(made, 10) == [("a", 3)]
    assert (made.balance, left(made)) == (10, {"b": 5, "c": 5})
    assert expire(made, 10**18) == [("b", 5)]


def test_a_refund_takes_its_own_credit_first_then_others_then_makes_debt() -> None:
    """Also credits of a scope are taken: the money is gone."""
    made = account(grant("x", 5), grant("p", 5, at=1), grant("s", 1, at=2, scope=("m",)))
    assert take_back(made, 13, "p") == [("p", 5), ("x", 5), ("s", 1)]
    assert (made.balance, made.grants) == (-2, [])


def test_a_negative_charge_comes_back_as_balance() -> None:
    """A price that gives back burns no credit; the account holds more than its credits."""
    made = account(grant("a", 5))
    assert charge(made, -3, [("m", -3)]) == []
    assert (made.balance, left(made)) == (8, {"a": 5})


def test_bounds_refuse_before_anything_changes() -> None:
    """One beyond +-(2^63 - 1) is refused, the bound itself is not; likewise what debt may come to."""
    check_balance(AMOUNT_MAX_NANOS)
    check_balance(-AMOUNT_MAX_NANOS)
    for beyond in (AMOUNT_MAX_NANOS + 1, -AMOUNT_MAX_NANOS - 1):
        with pytest.raises(InvalidInput, match="beyond its bounds"):
            check_balance(beyond)
    made = account(grant("s", 5, scope=("other",)))
    charge(made, 7, [("m", 7)])
    check_debt(made, AMOUNT_MAX_NANOS - 7)
    with pytest.raises(InvalidInput, match="debt"):
        check_debt(made, AMOUNT_MAX_NANOS - 6)
    with pytest.raises(InvalidInput, match="larger than"):
        check_room_for(made, grant("g", 1, scope=("m" * ACCOUNT_MAX_BYTES,)))


def test_the_first_money_settles_the_currency_for_ever() -> None:
    """Another currency later is refused and changes nothing."""
    made = account()
    settle_currency(made, "EUR")
    settle_currency(made, "EUR")
    with pytest.raises(InvalidInput) as refused:
        settle_currency(made, "USD")
    assert (refused.value.reason, made.currency) == ("currency_mismatch", "EUR")

"""Closing on the real parts while things go wrong: killed anywhere, by several at once, by one that was thought dead.

Each case is a tenant of its own with customers who used something last month, pay in advance or afterwards, with and
without tax. Afterwards each customer has one invoice, its usage is what ClickHouse has as rated, the numbers have no
gap, and what finalization takes of a wallet was taken once.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from schemas.settings import Settings
from tests.deployment import halted, until
from tests.served import Served

LISTENING: Final = re.compile(r"listening on (http://\S+)")
CATALOG: Final = """\
currency: USD
meters:
  - {id: calls, event_type: usage.reported}
prices:
  - {id: call, meter: calls, model: per_unit, unit_amount: "0.0123"}
  - {id: floor, meter: calls, match: {}, model: per_unit, unit_amount: "0.0123", effective_from: 2020-01-01T00:00:00Z,
     minimum_amount: "3.00"}
"""
CUSTOMERS: Final = 12
MONTH: Final = (datetime.now(UTC).replace(day=1) - timedelta(days=1)).replace(hour=12, minute=0, second=0)
PERIOD: Final = f"{MONTH:%Y-%m}"
PLACE_S: Final = 240


@pytest.fixture(scope="module")
def served(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A deployment that serves."""
    folder: Path = tmp_path_factory.mktemp("closing")
    (folder / "catalog.yaml").write_text(CATALOG)
    made = Served(services, folder / "serve.log")
    made.apply(folder / "catalog.yaml", "before-any")
    with made.serving():
        yield made


@dataclass
class Case:
    """A tenant whose last month is to be closed."""

    served: Served
    tenant: str
    http: httpx.Client

    def close(self) -> subprocess.Popen[bytes]:
        """`tollgate invoices close --finalize`, begun."""
        command = ("invoices", "close", "--period", PERIOD, "--tenant", self.tenant, "--finalize", "--json")
        tollgate = self.served.tollgate
        return subprocess.Popen(
            tollgate.command(*command), env=tollgate.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def closed(self) -> dict[str, Any]:
        """Closed to the end; what it says."""
        process = self.close()
        out, err = process.communicate(timeout=PLACE_S)
        assert process.returncode == 0, err.decode()
        found: dict[str, Any] = json.loads(out)
        return found

    def count(self, states: str = "'draft', 'open', 'paid'") -> int:
        """Invoices that ClickHouse shows."""
        ((found,),) = self.served.ask(
            f"SELECT count() FROM tollgate.invoices WHERE tenant = {{tenant:String}} AND state IN ({states})",
            tenant=self.tenant,
        )
        return int(found)

    def check(self) -> None:
        """One invoice each, of all that was used, with numbers without a gap; fees and tax taken once."""
        until(lambda: self.count("'open', 'paid'") >= CUSTOMERS, PLACE_S)
        rows = self.served.ask(
            "SELECT customer, invoice_id, number, tax, total FROM tollgate.invoices "
            "WHERE tenant = {tenant:String} AND state IN ('open', 'paid') ORDER BY number",
            tenant=self.tenant,
        )
        assert [number for _, _, number, *_ in rows] == [f"INV-{at:06d}" for at in range(1, CUSTOMERS + 1)]
        assert len({customer for customer, *_ in rows}) == self.count() == CUSTOMERS
        used = self._sums("SELECT customer, sum(amount) FROM tollgate.rated_usage WHERE tenant = {tenant:String}")
        billed = self._sums(
            "SELECT customer, sum(exact_amount) FROM tollgate.invoice_lines "
            "WHERE tenant = {tenant:String} AND kind = 'usage'"
        )
        assert billed == used
        taken = self._sums(
            "SELECT customer, sum(amount) FROM tollgate.invoice_lines "
            "WHERE tenant = {tenant:String} AND kind IN ('tax', 'minimum') AND startsWith(customer, 'pre')"
        )
        moved = self._sums(
            "SELECT customer, -sum(amount) FROM tollgate.ledger WHERE tenant = {tenant:String} AND kind = 'adjustment'"
        )
        assert moved == {customer: amount for customer, amount in taken.items() if amount}

    def _sums(self, query: str) -> dict[str, Decimal]:
        found = self.served.ask(f"{query} GROUP BY customer", tenant=self.tenant)
        return {str(customer): Decimal(amount) for customer, amount in found}


def cases(served: Served, folder: Path, count: int) -> list[Case]:
    """So many tenants with customers who used something; all visible."""
    (folder / "catalog.yaml").write_text(CATALOG)
    chance, made, events = random.Random(count), [], []
    address = LISTENING.findall(served.log.read_text())[-1]
    for _ in range(count):
        tenant = f"close-{uuid.uuid4().hex[:10]}"
        served.apply(folder / "catalog.yaml", tenant)
        token = served.tollgate("token", "issue", "--tenant", tenant).stdout.splitlines()[-1]
        http = httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=60)
        made.append(Case(served, tenant, http))
        for number in range(CUSTOMERS):
            customer = f"{'pre' if number % 2 else 'post'}-{number}"
            fields = {"collection": "prepaid" if number % 2 else "postpaid", "currency": "USD"}
            answer = http.put(f"/v1/customers/{customer}", json=fields | ({"tax_rate": "0.19"} if number % 3 else {}))
            assert answer.status_code < 300, answer.text
            for _ in range(6):
                at = MONTH - timedelta(hours=chance.randint(0, 27 * 24))
                data = {"meter": "calls", "quantity": chance.randint(1, 60)}
                event = {"specversion": "1.0", "id": uuid.uuid4().hex, "source": "closing", "type": "usage.reported"}
                event |= {"subject": customer, "tenantid": tenant, "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
                events.append(json.dumps(event | {"data": data}).encode())
    served.send(events)
    for case in made:
        until(lambda: served.outcomes(case.tenant).get("rated", 0) >= 7 * CUSTOMERS, PLACE_S)  # noqa: B023
    return made


def killed_at_random_points(served: Served, folder: Path, points: int) -> list[int]:
    """Kills a close of each tenant once, somewhere, and closes again; how many invoices each kill left."""
    first, *rest = cases(served, folder, points + 1)
    began = time.monotonic()
    assert first.closed()["drafted"] == CUSTOMERS
    whole = time.monotonic() - began
    first.check()
    chance, left = random.Random(points), []
    for case in rest:
        process = case.close()
        time.sleep(whole * chance.uniform(0.3, 1.0))
        process.kill()
        process.communicate()
        left.append(case.count())
        case.closed()
        case.check()
    assert case.closed()["drafted"] == 0
    return left


def test_a_close_that_was_killed_is_gone_on_with(served: Served, tmp_path: Path) -> None:
    """Killed at two points."""
    killed_at_random_points(served, tmp_path, 2)


@pytest.mark.long
def test_a_close_that_was_killed_anywhere_is_gone_on_with(served: Served, tmp_path: Path) -> None:
    """Killed at thirty points; some of them in the middle of the work."""
    left = killed_at_random_points(served, tmp_path, 30)
    print(f"invoices after each kill: {sorted(left)}")
    assert any(0 < count < CUSTOMERS for count in left) or len(set(left)) > 1, left


def known(http: httpx.Client, path: str, body: Any = None) -> httpx.Response:
    """Asked for again while nobody can tell."""
    answers: list[httpx.Response] = []

    def answered() -> bool:
        answers.append(http.post(path, json=body))
        return answers[-1].status_code not in (202, 503)

    until(answered)
    return answers[-1]


def test_two_closers_and_the_api_make_one_invoice_each(served: Served, tmp_path: Path) -> None:
    """Of two commands one has the lock, and says so; the API closes beside them without it: the log takes one draft."""
    (case,) = cases(served, tmp_path, 1)
    processes = [case.close(), case.close()]

    def by_api(number: int) -> None:
        customer = f"{'pre' if number % 2 else 'post'}-{number}"
        drafted = known(case.http, f"/v1/customers/{customer}/invoices", {"period": PERIOD})
        assert drafted.status_code in (200, 201), drafted.text
        finalized = known(case.http, f"/v1/invoices/{drafted.json()['id']}/finalize")
        assert finalized.status_code == 200, finalized.text

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(by_api, range(CUSTOMERS)))
    for process in processes:
        _, err = process.communicate(timeout=PLACE_S)
        assert process.returncode == 0 or b"another process is closing periods" in err, err
    case.closed()
    case.check()


def test_a_closer_that_was_thought_dead_bills_nothing_twice(served: Served, tmp_path: Path) -> None:
    """Stopped in the middle, overtaken, and woken: what it still sends was built upon what is past."""
    (case,) = cases(served, tmp_path, 1)
    process = case.close()
    until(lambda: case.count() > 0 or process.poll() is not None, PLACE_S)
    with halted(process.pid) if process.poll() is None else contextlib.nullcontext():
        for number in range(CUSTOMERS):
            customer = f"{'pre' if number % 2 else 'post'}-{number}"
            drafted = known(case.http, f"/v1/customers/{customer}/invoices", {"period": PERIOD})
            assert drafted.status_code in (200, 201), drafted.text
            known(case.http, f"/v1/invoices/{drafted.json()['id']}/finalize")
    _, err = process.communicate(timeout=PLACE_S)
    # It goes on to the end, or finds that an answer it waited for when it was stopped has not come.
    assert process.returncode == 0 or err.startswith(b"tollgate: "), err.decode()
    case.closed()
    case.check()


def test_jobs_go_on_when_their_leader_is_killed(served: Served) -> None:
    """Another scheduler leads when the lease has run out, and does what fell due meanwhile."""

    def last_run() -> str:
        listed = json.loads(served.tollgate("jobs", "ls", "--json").stdout)
        (found,) = [one for one in listed if one["name"] == "renew-subscriptions"]
        assert found.get("status", "done") == "done", found
        return str(found.get("last_run", ""))

    until(last_run, PLACE_S)
    os.kill(served.pid("scheduler"), signal.SIGKILL)
    before = last_run()
    until(lambda: last_run() > before, PLACE_S)


def test_after_all_that_every_equation_holds(served: Served) -> None:
    """Log, ledger, accounts, rows and invoices agree."""
    assert served.reconcile() == (0, {})

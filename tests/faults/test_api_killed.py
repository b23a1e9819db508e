"""The API killed between reserving, writing and answering: one effect a key, and every answer true."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import signal
import time
from collections import Counter, defaultdict
from typing import Any

import httpx
import pytest

from api.tokens import TokenFile
from backing import ports
from schemas.settings import Settings
from tests.faults.harness import Scene, nanos, scene

WALLETS = 4
DEPOSIT = 20
ANSWERED_SECONDS = 300.0


class Wallets:
    """Who moves money, and what came of each key."""

    def __init__(self, client: httpx.AsyncClient, seed: int) -> None:
        self.client = client
        self.random = random.Random(seed)
        self.answers: dict[str, list[dict[str, Any]]] = defaultdict(list)
        """By key: every 200."""
        self.moves: dict[str, list[tuple[str, int]]] = {}
        """By key that was answered 200: customers and nanos."""
        self.seen: Counter[str] = Counter()

    async def one(self, number: int) -> None:
        """One movement under one key, asked for until its outcome is known, then once more."""
        draw = self.random
        customer, other = draw.sample([f"w{at}" for at in range(WALLETS)], 2)
        kind = draw.choice(["deposit", "withdraw", "transfer", "consume"])
        amount = draw.randrange(1, 15 * 10**9)
        text = f"{amount // 10**9}.{amount % 10**9:09d}"
        body = {"amount": text} | ({"to_customer": other, "currency": "USD"} if kind == "transfer" else {})
        key = f"key-{number}"
        status = await self._until_known(f"/v1/customers/{customer}/wallet/{kind}", body, key)
        if status == 200:
            moves = {"deposit": [(customer, amount)], "transfer": [(customer, -amount), (other, amount)]}
            self.moves[key] = moves.get(kind, [(customer, -amount)])
            assert await self._until_known(f"/v1/customers/{customer}/wallet/{kind}", body, key) == 200

    async def _until_known(self, path: str, body: dict[str, Any], key: str) -> int:
        deadline = time.monotonic() + ANSWERED_SECONDS
        while True:
            try:
                answer = await self.client.post(path, json=body, headers={"Idempotency-Key": key})
            except httpx.TransportError:
                self.seen["no answer"] += 1
            else:
                self.seen[str(answer.status_code)] += 1
                if answer.status_code == 200:
                    self.answers[key].append(answer.json())
                if answer.status_code in (200, 402):
                    return answer.status_code
                assert answer.status_code in (202, 503), answer.text
            assert time.monotonic() < deadline, f"{key} was never answered: {self.seen}"
            await asyncio.sleep(0.1)

    async def held(self) -> list[dict[str, Any]]:
        """How each wallet stands."""
        found = []
        for at in range(WALLETS):
            answer = await self.client.get(f"/v1/customers/w{at}/balance")
            while answer.status_code == 503:  # it has not heard of its partition yet
                await asyncio.sleep(0.1)
                answer = await self.client.get(f"/v1/customers/w{at}/balance")
            assert answer.status_code == 200, answer.text
            found.append(answer.json()["balances"][0])
        return found


async def _storm(stage: Settings, seed: int, tasks: int, keys: int, kills: int) -> None:
    settings = dataclasses.replace(stage, http_port=ports.choose())
    async with scene(settings, seed=seed, customers=1, workers=1) as made:
        made.processes.start("api0")
        _, token = TokenFile(settings.tokens_file).issue(made.tenant, (), None, time.time_ns() // 1_000)
        headers = {"Authorization": f"Bearer {token}"}
        url = f"http://127.0.0.1:{settings.http_port}"
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            found = Wallets(client, seed)
            for at in range(WALLETS):
                path = f"/v1/customers/w{at}/wallet/deposit"
                assert await found._until_known(path, {"amount": str(DEPOSIT)}, f"first-{at}") == 200
                found.moves[f"first-{at}"] = [(f"w{at}", DEPOSIT * 10**9)]
            numbers = iter(range(keys))

            async def moving() -> None:
                for number in numbers:
                    await found.one(number)

            breaking = asyncio.create_task(_kills(made, seed, kills))
            await asyncio.gather(*(moving() for _ in range(tasks)))
            await breaking
            await made.processes.ready("api0")
            await _audit(made, found)


async def _kills(made: Scene, seed: int, kills: int) -> None:
    """At a random moment of its work, each time as soon as it works again."""
    chance = random.Random(seed)
    for _ in range(kills):
        await made.processes.ready("api0")
        await asyncio.sleep(chance.uniform(0.1, 1.5))
        made.processes.signal("api0", signal.SIGKILL)
        await asyncio.sleep(0.5)


async def _audit(made: Scene, found: Wallets) -> None:
    meant: Counter[str] = Counter()
    for moves in found.moves.values():
        for customer, amount in moves:
            meant[customer] += amount
    deadline = time.monotonic() + ANSWERED_SECONDS
    while True:  # the other side of a transfer is on its way, and so are rows
        standing = await found.held()
        rows = await made.rows.ask(
            f"SELECT entry_id, customer, amount, balance_after FROM tollgate.ledger WHERE tenant = '{made.tenant}'"
        )
        booked: Counter[str] = Counter()
        for _, customer, amount, _ in rows:
            booked[customer] += nanos(amount)
        balances = {f"w{at}": nanos(one["balance"]) for at, one in enumerate(standing)}
        if booked == meant and balances == dict(meant):
            break
        assert time.monotonic() < deadline, (booked, balances, meant)
        await asyncio.sleep(0.5)
    assert [(one["held"], one["available"]) for one in standing] == [("0", one["balance"]) for one in standing]
    of_entry = {entry: (amount, after) for entry, _, amount, after in rows}
    for key, answers in found.answers.items():
        assert all(answer == answers[0] for answer in answers), (key, answers)
        amount, after = of_entry[answers[0]["entry_id"]]
        assert nanos(after) == nanos(answers[0]["balance_after"]), key
        if key in found.moves:
            assert nanos(amount) == found.moves[key][0][1], key
    assert found.seen["200"]
    assert found.seen["402"]
    assert made.processes.killed
    assert await made.reconciled() == 0, f"see {made.log}"
    print(dict(found.seen))


async def test_the_api_is_killed_under_a_storm_of_movements(stage: Settings) -> None:
    """Whatever was cut off is asked for again under its key: it happened once, and is answered as it is booked."""
    await _storm(stage, 521, 8, 60, 3)


@pytest.mark.long
@pytest.mark.parametrize("seed", [531, 532])
async def test_the_api_is_killed_again_and_again(stage: Settings, seed: int) -> None:
    """The same for longer."""
    await _storm(stage, seed, 16, 600, 12)

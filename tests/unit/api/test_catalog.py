from __future__ import annotations

from schemas.catalog import parse
from tests.unit.api.conftest import CATALOGUE, World

YAML = {"Content-Type": "application/yaml"}
JSON = {"Content-Type": "application/json"}


async def test_a_tenant_sees_the_common_catalogue_until_it_has_its_own(world: World) -> None:
    """PUT makes a version that holds for the token's tenant alone."""
    own = CATALOGUE.replace("USD", "EUR")
    before = (await world.client.get("/v1/catalog", headers=world.token())).json()
    assert (before["version"], before["tenant"], before["catalog"]["currency"]) == (1, None, "USD")
    applied = await world.client.put("/v1/catalog", headers=world.token() | YAML, content=own)
    assert applied.status_code == 200
    assert applied.json()["version"] == 2
    assert applied.json()["checksum"] == parse(own).checksum
    after = (await world.client.get("/v1/catalog", headers=world.token())).json()
    assert (after["version"], after["tenant"], after["catalog"]["currency"]) == (2, "acme", "EUR")
    other = (await world.client.get("/v1/catalog", headers=world.token(tenant="globex"))).json()
    assert other["version"] == 1


async def test_what_get_shows_can_be_put_again(world: World) -> None:
    """The document is the catalogue, as JSON."""
    shown = await world.client.get("/v1/catalog", headers=world.token())
    applied = await world.client.put("/v1/catalog", headers=world.token(), json=shown.json()["catalog"])
    assert applied.json()["checksum"] == shown.json()["checksum"]


async def test_a_bad_catalogue_is_refused_with_every_fault(world: World) -> None:
    """Nothing of it is applied; each fault has its pointer."""
    bad = CATALOGUE.replace('"0.0000025"', "0.0000025").replace("currency: USD", "currency: usd")
    response = await world.client.put("/v1/catalog", headers=world.token() | YAML, content=bad)
    assert response.status_code == 422
    assert {fault["pointer"] for fault in response.json()["errors"]} == {"/currency", "/prices/0/unit_amount"}
    assert world.book.position == 1


async def test_a_catalogue_that_is_no_json_is_400(world: World) -> None:
    """Where JSON was promised; YAML is 422 with its line."""
    assert (await world.client.put("/v1/catalog", headers=world.token() | JSON, content=b"{")).status_code == 400
    assert (await world.client.put("/v1/catalog", headers=world.token() | YAML, content=b"{")).status_code == 422


async def test_without_a_catalogue_there_is_none(world: World) -> None:
    """404, and /readyz says so too."""
    world.book._versions.clear()
    assert (await world.client.get("/v1/catalog", headers=world.token())).status_code == 404


async def test_kafka_away_applies_nothing(world: World) -> None:
    """503; the catalogue in force stays."""
    world.publisher.away = True
    response = await world.client.put("/v1/catalog", headers=world.token() | YAML, content=CATALOGUE)
    assert response.status_code == 503


async def test_a_price_is_estimated_exactly(world: World) -> None:
    """The pipeline's own arithmetic, not rounded."""
    price = {"model": "per_unit", "unit_amount": "0.0000000000375"}
    body = {"price": price, "quantity": "1"}
    response = await world.client.post("/v1/prices/estimate", headers=world.token(), json=body)
    assert response.status_code == 200
    assert response.json()["amount"] == "0.0000000000375"


async def test_a_bad_estimate_says_what_is_wrong(world: World) -> None:
    """400 for what is no JSON, 422 for what is not asked for."""
    headers = world.token() | JSON
    for content, status in (
        (b"", 400),
        (b"{", 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"price": {}, "quantity": 1}', 422),
    ):
        response = await world.client.post("/v1/prices/estimate", headers=headers, content=content)
        assert response.status_code == status, content


PLANS = (
    CATALOGUE
    + """
plans:
  - {id: team, interval: year, amount: "200.00"}
  - id: pro
    name: Pro
    interval: month
    amount: "20.00"
    trial_days: 14
    prices: [p]
    features: {seats: 5, sso: true}
    quotas: [{meter: input_tokens, limit: 1000, window: "session:5h"}]
    credits: [{amount: "20.00", expires_after: P1M}]
"""
)


async def test_plans_are_those_of_the_catalogue_in_force(world: World) -> None:
    """By id, in pages; each with its currency and version, numbers as text."""
    await world.client.put("/v1/catalog", headers=world.token() | YAML, content=PLANS)
    whole = (await world.client.get("/v1/plans", headers=world.token())).json()
    assert [plan["id"] for plan in whole["data"]] == ["pro", "team"]
    assert whole["next_cursor"] is None
    assert whole["data"][0] == {
        "id": "pro",
        "name": "Pro",
        "description": None,
        "interval": "month",
        "amount": "20.00",
        "currency": "USD",
        "trial_days": 14,
        "proration": "seconds",
        "prices": ["p"],
        "features": {"seats": "5", "sso": True},
        "credits": [{"amount": "20.00", "every": "month", "expires_after": "P1M"}],
        "quotas": [
            {
                "meter": "input_tokens",
                "limit": "1000",
                "window": "session:5h",
                "mode": "hard",
                "thresholds": [],
                "per": "customer",
            }
        ],
        "commitment": None,
        "catalog_version": 2,
    }
    first = (await world.client.get("/v1/plans?limit=1", headers=world.token())).json()
    second = (await world.client.get(f"/v1/plans?cursor={first['next_cursor']}", headers=world.token())).json()
    assert [plan["id"] for plan in (*first["data"], *second["data"])] == ["pro", "team"]
    assert second["next_cursor"] is None


async def test_a_plan_is_told_by_its_id(world: World) -> None:
    """404 for one that the tenant's catalogue does not have."""
    assert (await world.client.get("/v1/plans", headers=world.token())).json() == {"data": [], "next_cursor": None}
    await world.client.put("/v1/catalog", headers=world.token() | YAML, content=PLANS)
    found = await world.client.get("/v1/plans/team", headers=world.token())
    assert (found.status_code, found.json()["interval"]) == (200, "year")
    assert (await world.client.get("/v1/plans/free", headers=world.token())).status_code == 404
    assert (await world.client.get("/v1/plans/team", headers=world.token(tenant="globex"))).status_code == 404


async def test_a_catalogue_of_the_future_is_not_in_force_yet(world: World) -> None:
    """Until its time comes, what is shown is what events of now are rated by."""
    later = "effective_from: 2030-01-01T00:00:00Z\n" + PLANS
    applied = await world.client.put("/v1/catalog", headers=world.token() | YAML, content=later)
    assert applied.json()["version"] == 2
    shown = (await world.client.get("/v1/catalog", headers=world.token())).json()
    assert shown["version"] == 1
    assert (await world.client.get("/v1/plans", headers=world.token())).json()["data"] == []


async def test_applying_needs_the_admin_scope_and_a_known_media_type(world: World) -> None:
    """403 before the body is looked at, 415 for what is neither YAML nor JSON."""
    reader = world.token("usage:read")
    assert (await world.client.put("/v1/catalog", headers=reader | YAML, content=b"{")).status_code == 403
    assert (await world.client.get("/v1/catalog", headers=reader)).status_code == 200
    text = {"Content-Type": "text/plain"}
    assert (await world.client.put("/v1/catalog", headers=world.token() | text, content=PLANS)).status_code == 415
    assert world.book.position == 1

"""Requests made from the OpenAPI document, good and bad ones: no answer is a 5xx of ours.

The same requests on every run, and as many for each operation; `pytest --hypothesis-profile=default` makes new ones.
"""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from typing import Any, Final

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase

from tests.security.conftest import Owner, Site, operations

EXAMPLES: Final = 5
"""Of each operation."""

UNSET: Final = {"post /webhooks/stripe": 503}
"""Stripe's secret is not set here, and that is what the route says."""


def test_no_request_is_answered_500(site: Site, owner: Owner) -> None:
    """Every operation, with parameters and bodies that its schema allows and that it does not."""
    schema = schemathesis.openapi.from_dict(site.document)
    faults: list[str] = []
    statuses: Counter[int] = Counter()
    asked: set[tuple[str, str]] = set()
    with site.client(f"fuzz-{uuid.uuid4().hex}") as client:
        for result in schema.get_all_operations():
            operation = result.ok()  # type: ignore[union-attr]  # an invalid operation fails here
            method, path = operation.method.lower(), operation.path
            for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
                asked.add((method, path))
                faults += _faults(operation.as_strategy(generation_mode=mode), client, f"{method} {path}", statuses)
    assert not faults, "\n".join(faults)
    print(dict(statuses))
    # What was made reached the routes: some was taken, some was not found, some was refused for its content.
    assert min(statuses[200] + statuses[201] + statuses[202], statuses[404], statuses[422]) > 10
    assert asked == {(method, path) for method, path, _ in operations(site.document)}


def _faults(cases: Any, client: httpx.Client, name: str, statuses: Counter[int]) -> list[str]:
    found: list[str] = []

    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=cases)
    def ask(case: Any) -> None:
        request = case.as_transport_kwargs(base_url=str(client.base_url))
        request.pop("cookies", None)
        headers = {
            key: value
            for key, value in (request.pop("headers", None) or {}).items()
            if key.lower() not in ("authorization", "x-service-token")
        }
        body = {"content": request["data"]} if isinstance(request.get("data"), bytes | str) else {}
        if "json" in request:
            body = {"json": request["json"]}
        answer = client.request(
            request["method"], request["url"], params=request.get("params"), headers=headers, **body
        )
        statuses[answer.status_code] += 1
        if answer.status_code >= 500 and answer.status_code != UNSET.get(name):
            found.append(f"{name}: {answer.status_code}: {request} -> {answer.text[:300]}")

    # Of some operations nothing of a kind can be made: one without parameters has no bad ones.
    with contextlib.suppress(hypothesis.errors.Unsatisfiable):
        ask()
    return found


@pytest.mark.parametrize("path", ["/v1/events", "/v1/holds", "/v1/orders"])
def test_the_document_says_enough_to_make_requests_from(site: Site, path: str) -> None:
    """A body's schema names its fields: requests made from it are not all refused for their form."""
    (content,) = {
        str(sorted(body["schema"].get("properties", {})))
        for media, body in site.document["paths"][path]["post"]["requestBody"]["content"].items()
        if "batch" not in media
    }
    assert content != "[]"

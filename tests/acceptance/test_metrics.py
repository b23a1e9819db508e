"""Metrics as Prometheus scrapes them from a running deployment: every one of the README's table is there."""

from __future__ import annotations

import json
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from schemas.metrics import METRICS, Metric
from tests.acceptance.site import Site, fresh, until

CATALOGUE = """
currency: USD
meters:
  - {id: calls, event_type: usage.reported}
prices:
  - {id: call, meter: calls, model: per_unit, unit_amount: "1"}
"""

ONLY_IN_TROUBLE = {"tollgate_partition_reopened_total", "tollgate_store_unavailable_total"}
"""Their labels name what failed: with no fault there is nothing to count."""


def exposed(site: Site) -> dict[tuple[str, str], list[dict[str, str]]]:
    """By role and metric, the labels of its samples, of all that `tollgate status` and `prometheus.json` name alike."""
    processes = json.loads(site.tollgate("status", "--json").stdout)["processes"]
    urls = {process["metrics"]: process["role"] for process in processes}
    discovered = json.loads((site.tollgate.settings.data_dir / "prometheus.json").read_text())
    targets = {f"http://{target}/metrics": one["labels"]["role"] for one in discovered for target in one["targets"]}
    assert targets == urls
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    for url, role in urls.items():
        for family in text_string_to_metric_families(httpx.get(url, timeout=10).text):
            # A counter's family has no ending; its declared name has.
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = [dict(sample.labels) for sample in family.samples if not sample.name.endswith("_created")]
            found.setdefault((role, name), []).extend(labels)
    return found


def missing(site: Site) -> list[str]:
    """What a process does not show as it is declared."""
    found = exposed(site)

    def is_shown(metric: Metric, role: str) -> bool:
        samples = found.get((role, metric.name))
        if samples is None:
            return False
        if metric.name not in ONLY_IN_TROUBLE and not samples:
            return False
        return all(labels.keys() - {"le"} == set(metric.labels) for labels in samples)

    return [
        f"{metric.name} of {role}"
        for metric in METRICS
        for role in metric.roles.split(", ")
        if not is_shown(metric, role)
    ]


def test_every_metric_of_the_table_is_exposed_by_who_is_said_to(site: Site) -> None:
    """After some events and a hold of each end, with the labels of the table and no others: never a customer."""
    tenant = site.tenant("metrics", CATALOGUE)
    customer, http = fresh(), tenant.http
    headers = {"Content-Type": "application/cloudevents+json"}

    def post(event: dict[str, Any]) -> int:
        return http.post("/v1/events", content=json.dumps(event), headers=headers).status_code

    calls = {"meter": "calls"}
    assert post(tenant.event(customer, "usage.reported", calls)) == 202
    assert post(tenant.event(customer, "usage.reported", calls, specversion="0.1")) == 422
    tenant.send(tenant.event(customer, "never.heard", {}))
    credit = {"amount": "5", "currency": "USD"}
    answer = http.post(f"/v1/customers/{customer}/credits", json=credit, headers={"Idempotency-Key": fresh()})
    assert answer.status_code < 300, answer.text
    held = until(lambda: http.post("/v1/holds", json={"customer": customer, "amount": "1"}).json().get("hold_id"))
    assert http.post(f"/v1/holds/{held}/settle", json={"amount": "1"}).status_code == 200
    until(lambda: missing(site) == [], "every metric", 120)

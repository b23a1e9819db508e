"""A year of billing on a test clock, in memory: every invoice equal to an independent auditor's."""

from __future__ import annotations

import pytest

from tests.billing_auditor import audit
from tests.simulation.billing_year import HAPPENS, Year, checked


@pytest.mark.parametrize("seed", [1])
async def test_every_invoice_of_a_year_is_the_auditors(seed: int) -> None:
    """Upgrades, cancellations, late usage, payments, voids: usage at its own plan's price, each second billed once."""
    year = Year(seed, 4)
    await year.run()
    assert checked(year) == [], f"seed {seed}"
    assert len(year.world.documents("invoice")) > 20
    assert all(year.happened[name] for name in HAPPENS if name != "void"), year.happened


@pytest.mark.long
@pytest.mark.parametrize("seed", [11, 12, 13, 14, 15])
async def test_every_invoice_of_fifty_customers_is_the_auditors(seed: int) -> None:
    """The long form: fifty customers and five seeds."""
    year = Year(seed, 50)
    await year.run()
    assert checked(year) == [], f"seed {seed}"
    assert all(year.happened[name] for name in HAPPENS), year.happened
    print(f"seed {seed}: {len(year.world.documents('invoice'))} invoices, {dict(year.happened)}")


async def test_the_auditor_finds_one_cent() -> None:
    """An auditor that finds nothing wrong in a wrong invoice proves nothing."""
    year = Year(2, 1)
    await year.run()
    assert checked(year) == []
    invoices = year.world.documents("invoice")
    of = next(one for one in invoices if one["lines"])
    for name in ("amount", "exact_amount"):
        damaged = [dict(one) for one in invoices]
        place = invoices.index(of)
        lines = [dict(line) for line in of["lines"]]
        lines[0][name] = str(float(lines[0][name]) + 0.01)
        damaged[place]["lines"] = lines
        entries = year.world.partition.rows()
        seqs = {row["event_id"]: row["seq"] for row in entries if row["event_type"] == "usage.reported"}
        assert audit(year.told, damaged, seqs, year.world.documents("subscription"))

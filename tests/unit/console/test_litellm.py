"""litellm's price list as a catalogue, against the rules of litellm's own calculator worked out here by hand."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from console.litellm import Imported, convert, lines, read_list
from console.main import main
from schemas.catalog import from_document, parse
from schemas.errors import InvalidInput
from schemas.money import NANOS
from tests.fakes.partition import MemoryPartition, event

EXCERPT = Path(__file__).parents[2] / "data" / "litellm" / "model_prices_excerpt.json"


@pytest.fixture(scope="module")
def imported() -> Imported:
    return convert(read_list(EXCERPT.read_bytes()))


@pytest.fixture(scope="module")
def catalog_text(imported: Imported) -> str:
    return "\n".join(lines(imported.catalog))


def call(model: str, **data: Any) -> dict[str, Any]:
    return event("1", "session.tokens_used", {"session_id": "s", "model": model, "output_tokens": 0, **data})


def charged(text: str, record: dict[str, Any]) -> tuple[Decimal, set[str]]:
    (row,) = MemoryPartition(text).usage(record)
    assert row["outcome"] == "rated", row
    nanos = sum(charge["amount"] for charge in row["charges"])
    return Decimal(nanos) / NANOS, {
        charge["price_id"].removeprefix(record["data"]["model"]) for charge in row["charges"]
    }


M = Decimal("1e-6")


@pytest.mark.parametrize(
    ("model", "data", "amount", "prices"),
    [
        # input 2.50, cache read 1.25, output 10 a million
        (
            "gpt-4o",
            {"input_tokens": 1200, "cached_input_tokens": 200, "output_tokens": 340},
            (1000 * Decimal("2.5") + 200 * Decimal("1.25") + 340 * 10) * M,
            {":input", ":cache-read", ":output"},
        ),
        # reasoning without a price of its own is output, and counted once
        ("gpt-4o", {"input_tokens": 0, "output_tokens": 10, "reasoning_tokens": 4}, 100 * M, {":output", ":reasoning"}),
        # the batch tier has input and output of its own, its cache read is the standard one
        (
            "gpt-4o",
            {"input_tokens": 100, "cached_input_tokens": 50, "output_tokens": 10, "service_tier": "batch"},
            (50 * Decimal("1.25") + 50 * Decimal("1.25") + 10 * 5) * M,
            {":input:batch", ":cache-read", ":output:batch"},
        ),
        # a tier that the list does not know is the standard one
        ("gpt-4o", {"input_tokens": 100, "service_tier": "default"}, 250 * M, {":input"}),
        # at the bound: the lower price; above it the whole call at the higher one
        (
            "gemini/gemini-2.5-pro",
            {"input_tokens": 200_000, "output_tokens": 1000},
            (200_000 * Decimal("1.25") + 1000 * 10) * M,
            {":input", ":output"},
        ),
        (
            "gemini/gemini-2.5-pro",
            {"input_tokens": 200_001, "cached_input_tokens": 200_000, "output_tokens": 1000},
            (1 * Decimal("2.5") + 200_000 * Decimal("0.25") + 1000 * 15) * M,
            {":input:above_200k", ":cache-read:above_200k", ":output:above_200k"},
        ),
        (
            "gemini/gemini-2.5-pro",
            {"input_tokens": 200_001, "output_tokens": 1000, "service_tier": "priority"},
            (200_001 * Decimal("4.5") + 1000 * 27) * M,
            {":input:above_200k:priority", ":output:above_200k:priority"},
        ),
        # xai's bounds belong to the dearer side
        ("xai/grok-4.20-multi-agent-beta-0309", {"input_tokens": 199_999}, 199_999 * Decimal("1.25") * M, {":input"}),
        ("xai/grok-4.20-multi-agent-beta-0309", {"input_tokens": 200_000}, 500_000 * M, {":input:from_200k"}),
        # writes to a cache have their price, or that of input
        (
            "claude-sonnet-4-5",
            {"input_tokens": 1000, "cached_input_tokens": 100, "cache_write_tokens": 300},
            (600 * 3 + 100 * Decimal("0.3") + 300 * Decimal("3.75")) * M,
            {":input", ":cache-read", ":cache-write"},
        ),
        ("o3", {"input_tokens": 10, "cache_write_tokens": 10}, 20 * M, {":cache-write"}),
        # reasoning with a price of its own
        (
            "dashscope/qwen-plus-2025-04-28",
            {"input_tokens": 0, "output_tokens": 100, "reasoning_tokens": 60},
            (40 * Decimal("1.2") + 60 * 4) * M,
            {":output", ":reasoning"},
        ),
        # a table of ranges: 32k and 128k still belong below
        ("dashscope/qwen3-coder-flash", {"input_tokens": 32_000}, 32_000 * Decimal("0.3") * M, {":input"}),
        ("dashscope/qwen3-coder-flash", {"input_tokens": 32_001}, 32_001 * Decimal("0.5") * M, {":input:above_32k"}),
        (
            "dashscope/qwen3-coder-flash",
            {"input_tokens": 300_000, "cached_input_tokens": 1, "output_tokens": 10},
            (299_999 * Decimal("1.6") + Decimal("0.4") + 10 * Decimal("9.6")) * M,
            {":input:above_256k", ":cache-read:above_256k", ":output:above_256k"},
        ),
        # a table goes before the model's plain prices
        (
            "dashscope/qwen-plus-latest",
            {"input_tokens": 256_001, "output_tokens": 10, "reasoning_tokens": 10},
            (256_001 * Decimal("1.2") + 10 * 12) * M,
            {":input:above_256k", ":reasoning:above_256k"},
        ),
        # embeddings have no output
        ("text-embedding-3-small", {"input_tokens": 1_000_000}, Decimal("0.02"), {":input"}),
    ],
)
def test_a_call_costs_what_the_list_says(
    catalog_text: str, model: str, data: dict[str, Any], amount: Decimal, prices: set[str]
) -> None:
    """Rated by the pipeline under the imported catalogue."""
    assert charged(catalog_text, call(model, **data)) == (amount, prices)


def test_what_is_left_out_is_told_with_its_reason(imported: Imported) -> None:
    """Nothing disappears: a field with a price is in the catalogue or in the report."""
    told = {(one.model, one.field): one.reason for one in imported.skipped}
    assert told["sample_spec", ""] == "explains the fields and is no model"
    assert told["aiml/dall-e-2", ""] == "has no price for tokens"
    assert told["o3", "search_context_cost_per_query"] == "prices what session.tokens_used does not count"
    assert "how long a cache lives" in told["claude-sonnet-4-5", "cache_creation_input_token_cost_above_1hr"]
    names = {one["match"]["model"] for one in imported.catalog["prices"]}
    listed = set(json.loads(EXCERPT.read_bytes()))
    assert listed == names | {model for model, name in told if not name}
    assert imported.models == len(names)


def test_the_same_list_makes_the_same_catalogue(imported: Imported) -> None:
    """Whatever the order in it."""
    listed = json.loads(EXCERPT.read_bytes(), parse_float=Decimal)
    again = convert(dict(reversed(listed.items())))
    assert list(lines(again.catalog)) == list(lines(imported.catalog))
    assert from_document(again.catalog).checksum == parse("\n".join(lines(imported.catalog))).checksum


def test_providers_can_be_named(imported: Imported) -> None:
    """The others are then not told either: nobody asked for them."""
    listed = read_list(EXCERPT.read_bytes())
    one = convert(listed, ["anthropic"])
    assert {price["match"]["model"] for price in one.catalog["prices"]} == {"claude-sonnet-4-5"}
    assert {skipped.model for skipped in one.skipped} == {"claude-sonnet-4-5"}
    assert convert(listed, ["nobody"]).catalog["prices"] == []
    assert parse("\n".join(lines(convert(listed, ["nobody"]).catalog))).prices == ()


@pytest.mark.parametrize(
    ("entry", "field", "reason"),
    [
        (5, "", "is no mapping"),
        ({"input_cost_per_token": True}, "input_cost_per_token", "is no price"),
        ({"input_cost_per_token": -1}, "input_cost_per_token", "is no price"),
        ({"input_cost_per_token": "free"}, "input_cost_per_token", "is no price"),
        ({"input_cost_per_token": "NaN"}, "input_cost_per_token", "is no price"),
        ({"input_cost_per_token": "1e-31"}, "input_cost_per_token", "is no price"),
        ({"input_cost_per_token": "1e999999999"}, "input_cost_per_token", "is no price"),
        ({"input_cost_per_token": 1, "input_cost_per_token_ultrafast": 1}, "input_cost_per_token_ultrafast", "a tier"),
        ({"input_cost_per_token": 1, "tiered_pricing": [{"range": [5, 6]}]}, "tiered_pricing", "ranges are not"),
        ({"input_cost_per_token": 1, "off_peak_pricing": {}}, "off_peak_pricing", "by the hour of the day"),
    ],
)
def test_an_odd_entry_is_left_out_by_name(entry: Any, field: str, reason: str) -> None:
    """And the others are taken."""
    made = convert({"odd": entry, "sound": {"input_cost_per_token": "0.000001"}})
    assert "sound:input" in {price["id"] for price in made.catalog["prices"]}
    assert any(one.model == "odd" and one.field == field and reason in one.reason for one in made.skipped)
    assert from_document(made.catalog)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_list_is_refused(raw: bytes) -> None:
    """Before anything is made of it."""
    with pytest.raises(InvalidInput):
        read_list(raw)


def test_the_command_prints_the_catalogue_and_tells_what_it_left_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, catalog_text: str
) -> None:
    """The catalogue on standard output or in a file, ready to be checked; the report beside it."""

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as exited:
            main(arguments)
        assert isinstance(exited.value.code, int)
        return exited.value.code

    assert run("catalog", "import", "litellm", str(EXCERPT)) == 0
    printed = capsys.readouterr()
    assert printed.out == catalog_text + "\n"
    assert "left out: search_context_cost_per_query: prices what session.tokens_used does not count" in printed.err
    assert printed.err.splitlines()[-1].endswith("prices of 12 models")
    file = tmp_path / "made.yaml"
    assert run("catalog", "import", "litellm", str(EXCERPT), "--output", str(file), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["models"] == 12
    assert {"model": "aiml/dall-e-2", "field": "", "reason": "has no price for tokens"} in report["skipped"]
    assert file.read_text() == catalog_text + "\n"
    assert run("catalog", "check", str(file)) == 0
    capsys.readouterr()
    file.write_text("no list")
    assert run("catalog", "import", "litellm", str(file)) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1

"""`tollgate catalog` and `tollgate price` without a server."""

from __future__ import annotations

import io
import json
import sys
from importlib import resources
from pathlib import Path

import pytest

from console.main import main
from schemas.catalog_document import MAX_BYTES

GOOD = """
currency: USD
meters: [{id: m, event_type: e, quantity: data.n}]
prices: [{id: p, meter: m, model: per_unit, unit_amount: "2.50", unit_divisor: 1000000}]
"""


@pytest.fixture(autouse=True)
def _no_deployment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOLLGATE_DATA_DIR", str(tmp_path / "data"))
    for variable in ("KAFKA_BOOTSTRAP", "REDIS_URL", "CLICKHOUSE_URL"):
        monkeypatch.delenv(f"TOLLGATE_{variable}", raising=False)


def code_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert isinstance(exited.value.code, int)
    return exited.value.code


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "good.yaml"
    file.write_text(GOOD)
    return file


def test_check_prices_a_sample_of_a_good_catalogue(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0, and a look at every price."""
    assert code_of("catalog", "check", str(good)) == 0
    printed = capsys.readouterr()
    assert "p: per_unit for m: 1,000,000 units 2.5" in printed.out
    assert "no fault: USD, 1 meters, 1 prices, 0 plans" in printed.out
    assert code_of("catalog", "check", str(good), "--json") == 0
    assert json.loads(capsys.readouterr().out)["samples"][0]["amount"] == "2.5"


@pytest.mark.parametrize("command", ["check", "apply"])
def test_faults_stand_one_a_line_and_nothing_is_done(
    command: str, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, every fault with its path on standard error, nothing on standard output."""
    good.write_text(GOOD.replace("per_unit", "per_unite").replace("data.n", "data.n +"))
    assert code_of("catalog", command, str(good)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["meters[0].quantity", "prices[0].model"]


@pytest.mark.parametrize("content", [b"x" * 10 * MAX_BYTES, b"\xff\xfe", b"", b"a: &a [*a]", b"[" * 10_000])
def test_what_is_no_catalogue_at_all_is_one_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten megabytes, other encodings, nothing, bombs: exit 2 and one sentence."""
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    assert code_of("catalog", "check", str(file)) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("catalog", "check", "/nowhere.yaml"),
        ("catalog", "check"),
        ("catalog", "show", "--version", "0"),
        ("catalog", "show", "--version", "1", "--tenant", "acme"),
        ("catalog", "diff", "/nowhere.yaml", "/elsewhere.yaml"),
    ],
)
def test_a_bad_argument_is_one_line_and_exit_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Told before anything is asked of Kafka."""
    assert code_of(*arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [("show",), ("diff", "1", "2")])
def test_without_a_deployment_it_says_what_to_do(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the command and the variable."""
    assert code_of("catalog", *arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "tollgate up" in line
    assert "TOLLGATE_KAFKA_BOOTSTRAP" in line


def test_diff_of_two_files(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a field that differs."""
    other = tmp_path / "other.yaml"
    other.write_text(GOOD.replace("2.50", "3"))
    assert code_of("catalog", "diff", str(good), str(other)) == 0
    assert capsys.readouterr().out == '~ prices[p].unit_amount: "2.50" -> "3"\n'


def test_estimates_answer_line_by_line(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A bad line is answered by an error, and the next go on; exit 0."""
    price = {"model": "per_unit", "unit_amount": "0.0000000375"}
    lines = [
        json.dumps({"price": price, "quantity": "3"}),
        "no json",
        "",
        json.dumps({"price": price, "quantity": "2"}),
    ]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    assert code_of("price", "estimate") == 0
    answers = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [answer.get("amount") for answer in answers] == ["0.0000001125", None, None, "0.000000075"]
    assert ["error" in answer for answer in answers] == [False, True, True, False]


def test_the_demo_catalogue_has_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """What the demo applies is checked before anyone runs it."""
    demo = resources.files("console") / "demo_catalog.yaml"
    with resources.as_file(demo) as file:
        assert code_of("catalog", "check", str(file)) == 0
    assert "no fault" in capsys.readouterr().out

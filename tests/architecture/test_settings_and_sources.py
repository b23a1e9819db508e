"""Settings are read in one place, clocks and floats stay out of the middle, and no fake stands in for a broker."""

from __future__ import annotations

import ast
import re
from typing import Final

import pytest

from schemas.settings import PREFIX, Settings, variable_of
from tests.architecture.sources import PROJECT, ROOT, files_of_tests, modules, tree

# Where the environment is read besides schemas.settings, and why.
ENVIRONMENT_READERS: Final = {
    "backing/service.py": "hands the whole environment to the processes it starts",
    "backing/docker.py": "hands the whole environment to docker compose",
    "backing/java.py": "JAVA_HOME, which is Java's own",
    "backing/clickhouse_server/__main__.py": "TZ, which the engine reads once when it starts",
    "console/running.py": "hands the whole environment to the supervisor it starts",
    "console/supervisor.py": "hands the whole environment to the processes it starts, with its own pid for them",
    "console/main.py": "OPENBLAS_NUM_THREADS, which numpy reads once when it is loaded",
    "backing/jars.py": "XDG_CACHE_HOME, which is the desktop's own",
}

# TOLLGATE_ names in the code that are no settings, and what they are.
NO_SETTINGS: Final = {
    "TOLLGATE_SERVICE": "the mark by which a service's process is known again",
    "TOLLGATE_SUPERVISOR_PID": "tells a process whose end is its own end",
}

_PURE: Final = ("rating/", "schemas/money.py", "schemas/period.py", "ingest/accept.py", "api/queries.py")
_CLOCKS: Final = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}


@pytest.mark.parametrize("module", modules(), ids=str)
def test_the_environment_is_read_in_one_place(module: str) -> None:
    """os.environ and os.getenv stand in schemas.settings, and where the list says why."""
    reads = [
        node.lineno
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
    ]
    assert not reads or module == "schemas/settings.py" or module in ENVIRONMENT_READERS, f"{module}: lines {reads}"


def test_every_variable_in_the_code_is_a_setting() -> None:
    """A TOLLGATE_ name in code that is not in the table would be a setting nobody can look up."""
    declared = {variable_of(name) for name in Settings.__slots__}
    for module in modules():
        named = set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", (ROOT / module).read_text("utf-8")))
        assert named <= declared | set(NO_SETTINGS), f"{module}: {sorted(named - declared)}"


@pytest.mark.parametrize("module", [name for name in modules() if name.startswith(_PURE)], ids=str)
def test_the_middle_asks_no_clock(module: str) -> None:
    """Rating and its values take `now`; the same input gives the same output for ever."""
    asked = [
        ast.unparse(node.func)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(tuple(_CLOCKS))
    ]
    assert not asked


@pytest.mark.parametrize("module", [name for name in modules() if name.startswith(_PURE)], ids=str)
def test_no_float_is_near_money(module: str) -> None:
    """No float literal and no call of float in what computes amounts."""
    floats = [
        node.lineno
        for node in ast.walk(tree(module))
        if (isinstance(node, ast.Constant) and isinstance(node.value, float))
        or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float")
    ]
    assert not floats, f"{module}: lines {floats}"


def test_a_broker_in_memory_is_in_unit_tests_alone() -> None:
    """Fakes of Kafka, Redis and ClickHouse are imported by unit tests, laws and contract tests, and by no other."""
    allowed = ("tests/unit/", "tests/laws/", "tests/contracts/", "tests/simulation/", "tests/fakes/")
    for module in files_of_tests():
        if module.startswith(allowed):
            continue
        fakes = {
            alias.name
            for node in ast.walk(tree(module))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests.fakes")
            for alias in node.names
            if alias.name.startswith("Fake")
        }
        assert not fakes, module
    for module in modules():
        assert "tests" not in {
            (node.module or "").split(".")[0] for node in ast.walk(tree(module)) if isinstance(node, ast.ImportFrom)
        }


def test_every_dependency_and_ignored_rule_has_its_reason() -> None:
    """A comment stands beside each dependency and each ignored rule of pyproject.toml."""
    lines = (ROOT / "pyproject.toml").read_text("utf-8").splitlines()
    names = [*PROJECT["project"]["dependencies"], *PROJECT["tool"]["ruff"]["lint"]["ignore"]]
    for name in names:
        (line,) = [line for line in lines if line.strip().startswith(f'"{name}"')]
        assert re.search(r'",\s+# \S', line), name


def test_faust_is_pinned_exactly() -> None:
    """The transport leans on names that a next version may move."""
    assert "faust-streaming==0.15.3" in PROJECT["project"]["dependencies"]


def test_the_lock_names_no_registry_and_checks_every_package() -> None:
    """No host, no index; a hash for each package."""
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    assert "://" not in lock
    for block in re.split(r"\n(?=[a-z0-9])", lock):
        if not block.startswith("#"):
            assert "--hash=sha256:" in block, block.splitlines()[0]

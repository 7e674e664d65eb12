"""The layout: imports point one way, lists are whole, and importing changes nothing."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import retrofair

ROOT = Path(retrofair.__file__).parent

# The parts of the library, and what each may import. "errors", "files", "hub", "progress",
# "reported" and "version" are free to all; a part may always import itself.
FREE = {"errors", "files", "hub", "progress", "reported", "version"}
BELOW: dict[str, set[str]] = {
    "errors": set(),
    "files": set(),
    "hub": set(),
    "progress": set(),
    "reported": set(),
    "version": set(),
    "data": set(),
    "metrics": set(),
    "objective": {"metrics"},
    "thresholds": {"objective", "metrics"},
    "preprocessing": {"data"},
    "networks": {"data", "metrics"},
    "datasets": {"data"},
    "debiasers": {"data", "metrics", "objective", "thresholds", "networks"},
    "certifiers": {"data", "networks"},
    "individual": {"data", "metrics", "networks", "certifiers"},
    "regression": {"data", "metrics", "networks", "debiasers"},
    "frontier": {"data", "metrics", "objective", "thresholds", "networks", "debiasers"},
    "guarantee": {"data", "metrics", "objective", "thresholds", "networks", "debiasers"},
}
# the one import that points upwards, inside a method: a result asks for its page
UPWARDS = {("retrofair.reported", "retrofair.report")}
# what may use all of the above, in layers: each may import the ones before it
TOP = ("audit", "interop", "deploy", "plots", "report", "studies", "cli", "__main__")


def part_of(module: str) -> str:
    """The part a dotted name belongs to; "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def dotted(file: Path) -> str:
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(file: Path) -> Iterator[str]:
    """Every module of ours that a file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "retrofair")
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative import"
            if node.module == "retrofair":
                names = {alias.name for alias in node.names}
                yield from (f"retrofair.{name}" for name in sorted(names & parts()))
                yield from ["retrofair"] * bool(names - parts())  # a name of the package itself
            elif (node.module or "").startswith("retrofair."):
                yield str(node.module)


def parts() -> set[str]:
    return {part_of(dotted(file)) for file in files()} - {""}


def allowed(part: str) -> set[str]:
    if part in BELOW:
        return BELOW[part] | FREE | {part}
    if part in TOP:
        package = {""} if part in ("cli", "__main__") else set()
        return set(BELOW) | FREE | package | set(TOP[: TOP.index(part) + 1])
    return set(BELOW) | FREE | {part} | ({"audit"} if part != "audit" else set())


def violations(file: Path) -> list[str]:
    part = part_of(dotted(file))
    if not part:
        return []
    wrong = [name for name in imported(file) if part_of(name) not in allowed(part)]
    return [name for name in wrong if (dotted(file), name) not in UPWARDS]


@pytest.mark.parametrize("file", files(), ids=dotted)
def test_imports_point_one_way(file: Path) -> None:
    assert violations(file) == []


def test_the_check_of_imports_finds_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "def late():\n    from retrofair.cli import app\nimport retrofair.audit\n"
        "from retrofair import debiasers\nfrom retrofair.data import Batches\n"
    )
    names = set(imported(wrong))
    assert names == {
        "retrofair.cli",
        "retrofair.audit",
        "retrofair.debiasers",
        "retrofair.data",
    }
    assert {n for n in names if part_of(n) not in allowed("metrics")} == names
    assert {n for n in names if part_of(n) not in allowed("networks")} == names - {"retrofair.data"}
    assert {n for n in names if part_of(n) not in allowed("audit")} == {"retrofair.cli"}


def test_the_lists_above_have_no_way_back() -> None:
    done: set[str] = set()
    while len(done) < len(BELOW):
        free = {part for part, below in BELOW.items() if part not in done and below <= done}
        assert free, f"these import each other: {set(BELOW) - done}"
        done |= free


def test_no_library_module_imports_the_command_line() -> None:
    users = {
        dotted(file)
        for file in files()
        if any(part_of(name) == "cli" for name in imported(file))
        and part_of(dotted(file)) not in ("cli", "__main__")
    }
    assert users == set()


def test_the_parts_ruled_above_are_there() -> None:
    ruled = {"data", "metrics", "objective", "thresholds", "networks", "debiasers"}
    ruled |= {"preprocessing", "certifiers", "individual", "audit", "cli"}
    assert ruled <= parts()  # or the rules would hold of nothing


# --- lists ----------------------------------------------------------------------------------------


def packages() -> list[str]:
    found = [m.name for m in pkgutil.walk_packages([str(ROOT)], "retrofair.") if m.ispkg]
    return ["retrofair", *found]


@pytest.mark.parametrize("name", packages())
def test_every_public_name_exists_and_is_listed_once(name: str) -> None:
    module = importlib.import_module(name)
    public = list(getattr(module, "__all__", []))
    assert len(public) == len(set(public))
    for each in public:
        assert getattr(module, each, None) is not None, f"{name}.{each}"
    assert name != "retrofair" or public


@pytest.mark.parametrize(
    "name",
    ["metrics", "metrics.performance", "debiasers", "datasets", "certifiers", "studies"],
)
def test_members_of_all_have_names_of_their_own(name: str) -> None:
    members = importlib.import_module(f"retrofair.{name}").ALL
    names = [member.name for member in members]
    names += [alias for member in members for alias in getattr(member, "aliases", ())]
    assert len(names) == len(set(names)) > 0
    assert all(each.isidentifier() and each == each.lower() for each in names)


def test_no_package_with_members_was_forgotten_above() -> None:
    listed = {"metrics", "debiasers", "datasets", "certifiers", "studies"}
    having = {n.split(".")[1] for n in packages() if hasattr(importlib.import_module(n), "ALL")}
    assert having <= listed


def test_measures_and_performances_do_not_share_a_name() -> None:
    from retrofair import metrics
    from retrofair.metrics import performance

    names = [name for m in (*metrics.ALL, *performance.ALL) for name in (m.name, *m.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("package", ["debiasers", "certifiers"])
def test_a_members_file_class_and_name_agree(package: str) -> None:
    for member in importlib.import_module(f"retrofair.{package}").ALL:
        assert member.__module__ == f"retrofair.{package}.{member.name}"
        assert member.__name__.lower() == member.name.replace("_", "")


# --- importing ------------------------------------------------------------------------------------


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_changes_neither_random_state_nor_threads() -> None:
    code = """
import numpy, torch
before = torch.get_rng_state(), str(numpy.random.get_state())
threads = torch.get_num_threads(), torch.get_num_interop_threads()
dtype = torch.get_default_dtype()
import retrofair
assert torch.equal(before[0], torch.get_rng_state()), "torch's random state"
assert before[1] == str(numpy.random.get_state()), "numpy's random state"
assert threads == (torch.get_num_threads(), torch.get_num_interop_threads()), "threads"
assert dtype == torch.get_default_dtype() and torch.is_grad_enabled()
print("same")
"""
    assert run(code) == "same"


def test_importing_the_library_does_not_import_the_command_line() -> None:
    code = "import sys, retrofair; print([m for m in sys.modules if m.startswith('retrofair.cli')])"
    assert run(code) == "[]"

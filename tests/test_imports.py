"""The architecture: imports point down, flows knows nothing of benchmarks, files are short."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 250

FLOWS = (
    ("functorch", "linalg", "registry", "counting", "bijection", "flow", "whitening", "budget"),
    ("discrete", "continuous", "adapters"),
    ("conformance",),
    ("__init__",),
)
BENCHMARKS = (
    ("__init__", "metrics", "case", "exhibit"),
    (
        "naming",
        "store",
        "stats",
        "holm",
        "least_squares",
        "polynomials",
        "measure",
        "datasets",
        "baselines",
        "draw",
        "published",
    ),
    ("micro_results",),
    ("scaling_law", "parts"),
    ("cost_model", "shapes"),
    ("density", "training", "protocols"),
    ("views",),
    (
        "calls",
        "resident",
        "scoring",
        "equalities",
        "studies",
        "trainees",
    ),  # scoring serves studies and returns their Result
    ("claims",),
    ("run", "gate", "report", "worker", "suite", "faults", "fingerprint", "progress"),
    ("ab",),
    (
        "console",
        "running",
        "costing",
        "checking",
        "claiming",
        "comparing",
        "fetching",
        "timing",
        "cli",
        "__main__",
    ),
)
DATA = {"suites", "micro"}  # no part of the order: data, and benchmarks that pytest runs
LEVELS = {
    "flows": {name: level for level, names in enumerate(FLOWS) for name in names},
    "benchmarks": {name: level for level, names in enumerate(BENCHMARKS) for name in names},
}


def _files(package: str) -> list[Path]:
    return sorted(path for path in (ROOT / package).rglob("*.py"))


def _part(dotted: str) -> str:
    """The part of a package that a dotted name lies in: flows.discrete.glow -> discrete."""
    return (*dotted.split("."), "__init__")[1]


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file imports, wherever in it."""
    package = _dotted(path) if path.name == "__init__.py" else _dotted(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")
                base = ".".join([*up[: len(up) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                inner = ROOT.joinpath(*base.split("."), alias.name)
                is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                yield node.lineno, f"{base}.{alias.name}" if is_module else base


def _edges(package: str) -> Iterator[tuple[Path, int, str, str]]:
    """File and line, the part it lies in and the part of the same package that it imports."""
    for path in _files(package):
        for line, name in _imports(path):
            if name.split(".")[0] == package:
                yield path, line, _part(_dotted(path)), _part(name)


@pytest.mark.parametrize("package", LEVELS)
def test_every_part_has_its_place(package: str) -> None:
    """A new module at the top of a package has to be given a level above."""
    known = {*LEVELS[package], *DATA}
    for path in (ROOT / package).iterdir():
        is_part = path.suffix == ".py" or (path.is_dir() and any(path.rglob("*.py")))
        assert not is_part or path.stem in known, (
            f"{package}/{path.name} has no place in the order of imports: add {path.stem!r} to the "
            f"level of {package.upper()} in tests/test_imports.py above all that it imports"
        )


@pytest.mark.parametrize("package", LEVELS)
def test_imports_point_down(package: str) -> None:
    """No part imports one of a higher level, but the root: to register there, or look up."""
    levels = LEVELS[package]
    wrong = []
    for path, line, here, there in _edges(package):
        registry = package == "flows" and here in (*FLOWS[1], *FLOWS[2]) and there == "__init__"
        if here in DATA or there in DATA or here not in levels or there not in levels:
            continue
        if levels[there] > levels[here] and not registry:
            wrong.append(f"{path.relative_to(ROOT)}:{line}: {here} imports {there}")
    assert not wrong, "imports that point up:\n" + "\n".join(wrong)


@pytest.mark.parametrize("package", LEVELS)
def test_imports_make_no_circle(package: str) -> None:
    """No file imports itself by way of others; the root, where members register, does not count."""
    graph: dict[str, set[str]] = {}
    for path in _files(package):
        here = _dotted(path)
        for _, name in _imports(path):
            if name.split(".")[0] == package and name not in (here, package):
                graph.setdefault(here, set()).add(name)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"{package} imports itself in a circle: {' -> '.join(error.args[1])}")


def test_packages_of_members_stay_apart() -> None:
    """None imports another."""
    apart = set(FLOWS[1])
    for path, line, here, there in _edges("flows"):
        assert here == there or not {here, there} <= apart, (
            f"{path.relative_to(ROOT)}:{line}: {here} imports {there}"
        )


def test_the_library_does_not_know_the_harness() -> None:
    """flows never imports benchmarks."""
    for path in _files("flows"):
        for line, name in _imports(path):
            assert name.split(".")[0] != "benchmarks", f"{path.relative_to(ROOT)}:{line}"


@pytest.mark.parametrize("package", LEVELS)
def test_modules_are_short(package: str) -> None:
    """Of 250 lines at the most."""
    for path in _files(package):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= LONGEST, f"{path.relative_to(ROOT)} has {lines} lines, more than {LONGEST}"

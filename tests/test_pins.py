"""What a change of structure may not move: cases, frames, tables, claims, rows of check.

`python tests/test_pins.py` writes the pins again, for a change that is meant to move them.
"""

import csv
import gzip
import hashlib
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import benchmarks
from benchmarks.core.case import FORMER

ROOT = Path(__file__).resolve().parent.parent
PINS = Path(__file__).with_name("pins")
FOLDERS = ("baseline", "complexity", "conditional", "evaluations", "frontier", "ladder")
FOLDERS += ("libraries", "modes", "reference", "slide", "speed", "truth")  # those committed
SUITES = ("ci", "frontier", "full", "quick")
FLOWS = ("cnf", "ffjord", "maf", "nsf_ar", "realnvp")
APART = {"records", "claims", "not-done"}  # tables without measured numbers
UNPINNED = {"arrays"}  # columns that name places on a disk

pytestmark = pytest.mark.slow


def command(*arguments: str, cwd: Path = ROOT, status: tuple[int, ...] = (0,)) -> str:
    line = [sys.executable, "-m", "benchmarks", *arguments]
    done = subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode in status, done.stderr[-2000:]
    return done.stdout


def digest(values: Any) -> str:
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def rounded(value: Any) -> Any:
    """Numbers to ten significant digits, so that the order of a sum does not matter."""
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.10g}")
    if isinstance(value, dict):
        return {str(name): rounded(part) for name, part in value.items()}
    return [rounded(part) for part in value] if isinstance(value, list | tuple) else value


def cases(suite: str) -> list[str]:
    with tempfile.TemporaryDirectory() as empty:
        text = command("status", suite, "--json", "-", cwd=Path(empty), status=(0, 1))
    return sorted(case["key"] for case in json.loads(text)["missing"])


def frame(folder: str) -> dict[str, str]:
    """A digest for each column of a committed folder's frame, rows by key."""
    rows = benchmarks.load(ROOT / "results" / folder)
    rows = rows.sort_values("key", kind="stable").reset_index(drop=True)
    former = {of: study for study, of in FORMER.items()}  # studies that were merged since
    if "setting.part" in rows:
        parts = zip(rows["study"], rows.pop("setting.part"), strict=True)
        rows["study"] = [former.get(of, of[0]) for of in parts]
    columns = {}
    for name in [str(name) for name in rows if name not in UNPINNED]:
        values = rows[name].astype(object).where(rows[name].notna(), None)
        listed = [rounded(v.tolist() if hasattr(v, "tolist") else v) for v in values]
        if name == "run" or not all(value is None for value in listed):
            columns[name] = digest(listed)
    return columns


def tables(folder: str) -> dict[str, dict[str, str]]:
    """A digest for each column of numbers of each CSV of a committed folder's report."""
    with tempfile.TemporaryDirectory() as place:
        command("report", f"results/{folder}", "--out", place)
        return {
            path.stem: numbers(path)
            for path in sorted(Path(place, "tables").glob("*.csv"))
            if path.stem not in APART
        }


def numbers(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: [number(row[name]) for row in rows] for name in rows[0]} if rows else {}
    columns.pop("records", None)
    return {
        name: digest(values)
        for name, values in columns.items()
        if any(isinstance(value, float) for value in values)
    }


def number(text: str) -> Any:
    try:
        return rounded(float(text)) if text else None
    except ValueError:
        return text


def claims() -> dict[str, Any]:
    """Each claim's verdict on the committed records, as `flowgauge claims --json` has it."""
    return {verdict["id"]: verdict for verdict in json.loads(command("claims", "--json"))}


def checks(flow: str) -> list[list[str]]:
    """The rows of `flowgauge check` and their verdicts."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "rows.csv")
        command("check", flow, "--dim", "3", "--csv", str(path))
        rows = pd.read_csv(path, dtype=str).fillna("")
    listed: list[list[str]] = rows[["flow", "dim", "row", "dtype", "status"]].values.tolist()
    return listed


MEASURES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "cases": (cases, SUITES),
    "frame": (frame, FOLDERS),
    "tables": (tables, FOLDERS),
    "check": (checks, FLOWS),
}


def pinned(what: str) -> Any:
    return json.loads(gzip.decompress((PINS / f"{what}.json.gz").read_bytes()))


def write(what: str, value: Any) -> None:
    text = json.dumps(value, indent=0, sort_keys=True)
    (PINS / f"{what}.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


@pytest.mark.parametrize(
    ("what", "name"), [(what, name) for what in MEASURES for name in MEASURES[what][1]]
)
def test_what_is_pinned(what: str, name: str) -> None:
    """Of columns those that are pinned; others may come beside them."""
    before, now = pinned(what)[name], MEASURES[what][0](name)
    assert before == ({part: now.get(part) for part in before} if isinstance(now, dict) else now)


def test_verdicts_and_figures_of_claims() -> None:
    now = claims()
    for name, before in pinned("claims").items():
        for part in ("verdict", "sentence", "folder", "records", "command"):
            assert now[name][part] == before[part], (name, part)
        assert before["runs"].items() <= now[name]["runs"].items()


if __name__ == "__main__":
    PINS.mkdir(exist_ok=True)
    for what in sys.argv[1:] or [*MEASURES, "claims"]:
        if what == "claims":
            write(what, claims())
            continue
        measure, names = MEASURES[what]
        write(what, {name: measure(name) for name in names})
        print(what, flush=True)

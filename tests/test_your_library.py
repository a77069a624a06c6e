"""Anyone's repository, with a normal installation: the command, the plug-in of pytest, the action.

The repository is that of docs/your_library.md, with the flow of docs/tutorial.md, and has packages
`flows` and `benchmarks` of its own.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from documents import ROOT, blocks
from repositories import commit, write_files

pytestmark = pytest.mark.system

PAGE, TUTORIAL = ROOT / "docs" / "your_library.md", ROOT / "docs" / "tutorial.md"
ACTION = ".github/actions/flowgauge/action.yml"
SHIPPED = ("flows", "benchmarks", "pytest_flowgauge.py", "pyproject.toml", "README.md", "LICENSE")
OWN = "raise SystemExit('a package of the repository was imported')\n"
PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "my_package"
version = "1.0"
[tool.setuptools]
packages = ["my_package"]
[project.entry-points."flowgauge.flows"]
bent = "my_package.bent"
"""


def shown(page: Path, file: str) -> str:
    (text,) = (block.text for block in blocks(page) if block.file == file)
    return text


class Place:
    """A checkout of ours, a repository, and an environment that has both installed."""

    def __init__(self, folder: Path) -> None:
        self.ours, self.repository = folder / "action" / "owner", folder / "repository"
        self.environment, self.temporary = folder / "environment", folder / "temporary"
        self.temporary.mkdir()

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        inherited = {n: v for n, v in os.environ.items() if n != "PYTHONPATH" and "XDIST" not in n}
        path = f"{self.environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
        pip = {"PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1"}
        environment = {**inherited, **pip, "PATH": path, "OMP_NUM_THREADS": "1", **variables}
        where = {"cwd": self.repository, "env": environment}
        return subprocess.run(command, **where, capture_output=True, text=True)

    def steps(self, **inputs: str) -> list[subprocess.CompletedProcess[str]]:
        """Run the steps of the action as GitHub does, to the first that fails."""
        action = yaml.safe_load((self.ours / ACTION).read_text())
        given = {n: str(i.get("default", "")) for n, i in action["inputs"].items()} | inputs
        values = {f"inputs.{name}": value for name, value in given.items()}
        values["github.action_path"] = str((self.ours / ACTION).parent)
        files = {n: str(self.temporary / n) for n in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        done: list[subprocess.CompletedProcess[str]] = []
        for step in action["runs"]["steps"]:
            if "uses" in step:  # Python, which is there
                continue
            Path(files["GITHUB_OUTPUT"]).write_text("")
            variables = {
                name: re.sub(r"\$\{\{ ([\w.-]+) \}\}", lambda match: values[match[1]], text)
                for name, text in step.get("env", {}).items()
            }
            shell = (step["shell"], "--noprofile", "--norc", "-eo", "pipefail", "-c")
            places = {**files, "RUNNER_TEMP": str(self.temporary)}
            done.append(self.run(*shell, step["run"], **places, **variables))
            for line in Path(files["GITHUB_OUTPUT"]).read_text().splitlines():
                name, _, value = line.partition("=")
                values[f"steps.{step['id']}.outputs.{name}"] = value
            if done[-1].returncode:
                break
        return done


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A repository of one commit; the action's first step installs both."""
    place = Place(tmp_path)
    for name in (*SHIPPED, str(Path(ACTION).parent)):
        source, target = ROOT / name, place.ours / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        target.parent.mkdir(parents=True, exist_ok=True)
        copy(source, target)
    files = {
        "pyproject.toml": PROJECT,
        "my_package/__init__.py": "",
        "my_package/bent.py": shown(TUTORIAL, "bent.py"),
        "benchmarks/__init__.py": "",
        "benchmarks/sizes.py": "ROWS = 64\n",
        "benchmarks/test_speed.py": "from .sizes import ROWS\n" + shown(PAGE, "test_speed.py"),
        "flows/__init__.py": OWN,
        ".gitignore": "build/\n*.egg-info/\n",
        "exact.toml": shown(PAGE, "exact.toml"),
    }
    write_files(place.repository, files)
    commit(place.repository, "start")
    command = [sys.executable, "-m", "venv", "--without-pip", str(place.environment)]
    subprocess.run(command, check=True)
    _lend_packages(place.environment)
    return place


def _lend_packages(environment: Path) -> None:
    """Let an environment have the packages of this one, but for flowgauge."""
    lent = environment / "lent"
    lent.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "flowgauge" not in path.name and not path.name.startswith("__editable__"):
            (lent / path.name).symlink_to(path)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(str(lent))


def test_a_library_is_held_to_its_baseline_and_timed(place: Place) -> None:
    """The action fails without a baseline and if figures moved; `ab` and `compare` judge too."""
    small = "-s cost.dims=[2] --study cost"
    steps = place.steps(suite="exact.toml", options=small)
    assert [step.returncode for step in steps] == [0, 0, 2], steps[-1].stdout + steps[-1].stderr
    assert "results/baseline" in steps[-1].stderr

    assert re.fullmatch(r"flowgauge \d[\d.]+\n", place.run("flowgauge", "--version").stdout)
    renewed = place.run("flowgauge", "baseline", "update", str(place.temporary / "flowgauge"))
    assert renewed.returncode == 0, renewed.stderr
    assert (place.repository / "results" / "baseline" / "suite.json").is_file()
    commit(place.repository, "change")

    file = place.repository / "my_package" / "bent.py"
    file.write_text(file.read_text().replace("b * (root - 1), torch", "b * (root * 1 - 1), torch"))
    commit(place.repository, "change")
    steps = place.steps(suite="exact.toml", options=small)
    assert [step.returncode for step in steps] == [0, 0, 1], steps[-1].stdout + steps[-1].stderr
    assert "flow bent" in (place.temporary / "GITHUB_STEP_SUMMARY").read_text()

    options = "--package my_package --seconds 20 --json ab.json"
    timed = place.run("flowgauge", "ab", "HEAD~1", "HEAD", *options.split())
    (name,) = json.loads((place.repository / "ab.json").read_text())["benchmarks"]
    assert name == "bent/gradient", timed.stderr

    # pytest's fixtures in a repository whose `benchmarks` is a package too, and imports from itself
    options = ("-q", "--import-mode=importlib", "--benchmark-json=new.json")
    fast = ("--benchmark-max-time=0.01", "--benchmark-warmup=off")
    done = place.run("python", "-P", "-m", "pytest", "benchmarks", *options, *fast)
    assert done.returncode == 0, done.stdout + done.stderr
    (measured,) = json.loads((place.repository / "new.json").read_text())["benchmarks"]
    counts = measured["extra_info"]["counts"]
    assert counts["log_prob_flops"] > 0
    assert counts["log_prob_nfe"] == 0
    compared = place.run("flowgauge", "compare", "new.json", "new.json")
    assert compared.returncode == 0, compared.stderr
    assert "exact: 3 stayed" in compared.stdout

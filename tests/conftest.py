"""Fixtures shared by the tests: fixed seeds, one thread, flows away from their initialisation."""

import gc
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pandas as pd
import pytest
import torch
from torch import Tensor

import flows
import records as made
import report_probes
from benchmarks import report
from benchmarks.core.frame import load
from benchmarks.core.record import Record
from benchmarks.execution.process import Setup, Worker
from benchmarks.gate.comparison import compare
from benchmarks.gate.verdict import Verdict
from committed import FOLDERS
from flows import Flow

# the same examples on every run, and however slow the machine is
hypothesis.settings.register_profile(
    "steady",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("steady")


torch.set_num_threads(1)  # for fixtures of modules and sessions too


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that take long, or wait, come first: no process is left alone with one at the end."""
    items.sort(key=lambda item: ["system" not in item.keywords, "slow" not in item.keywords])


@pytest.fixture(autouse=True)
def _steady(monkeypatch, tmp_path_factory) -> Iterator[None]:
    """Every test starts from the same seed, on one thread, and without the user's data files.

    Processes that it starts have one thread too: others run beside it. The flows that it registers
    are forgotten.
    """
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("FLOWGAUGE_DATA", str(tmp_path_factory.getbasetemp()))
    monkeypatch.setenv("FLOWGAUGE_HOST", str(tmp_path_factory.getbasetemp()))  # locks of its own
    torch.default_generator.manual_seed(0)  # torch's takes a stack trace for each device
    with flows.members.temporary():
        yield
    torch.set_num_threads(1)


@pytest.fixture
def two_threads() -> None:
    """The caller has two threads of torch's, until the end of the test (`_steady`)."""
    torch.set_num_threads(2)


@pytest.fixture
def normal() -> Callable[..., Tensor]:
    """Standard normal numbers from a seed of their own: ``normal(5, 2, seed=1)``, float64."""

    def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return draw


@pytest.fixture
def make_flow(normal: Callable[..., Tensor]) -> Callable[..., Flow]:
    """Builds a registered flow, moves its parameters off their initial values, initialises it."""

    def make(name: str, dim: int, *, spread=0.2, dtype=torch.float64, **options: Any) -> Flow:
        torch.manual_seed(0)
        flow = flows.build(name, dim, **options).to(torch.float64)
        with torch.no_grad():
            for index, parameter in enumerate(flow.parameters()):
                parameter += spread * normal(*parameter.shape, seed=index)
        width = options.get("context_dim", 0)
        context = normal(256, width, seed=1) if width else None
        flow.initialize(normal(256, dim, seed=2) * 1.5 + 0.3, context)
        return flow.to(dtype)

    return make


@pytest.fixture(scope="session")
def frames() -> dict[str, pd.DataFrame]:
    """The committed records by suite; a test that changes a frame changes a copy."""
    return {name: load(folder) for name, folder in FOLDERS.items()}


@pytest.fixture
def probes() -> Iterator[None]:
    """The studies of `report_probes` are registered."""
    with report_probes.probes():
        yield


@pytest.fixture
def results(tmp_path: Path, probes: None) -> Path:
    """A results folder with a case done, one failed and one missing."""
    return report_probes.write_trial(tmp_path / "trial")


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder like `results`, with its report; tests read it and change nothing."""
    folder = report_probes.write_trial(tmp_path_factory.mktemp("rendered") / "trial")
    with report_probes.probes():
        report.write(folder)
    return folder


@pytest.fixture
def gate(tmp_path: Path) -> Callable[..., Verdict]:
    """Compares two lists of records; the folders are base and new, then base2 and new2, ..."""
    numbers = itertools.count(1)

    def judge(base: list[Record], new: list[Record]) -> Verdict:
        number = next(numbers)
        suffix = "" if number == 1 else str(number)
        sides = {f"base{suffix}": base, f"new{suffix}": new}
        return compare(*(made.folder(tmp_path / name, *records) for name, records in sides.items()))

    return judge


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    """One server for all runs in which nothing dies."""
    worker = Worker(Setup(threads=1, device="cpu", memory_share=0.8))
    yield worker
    worker.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The Chromium of the system, which few modules need; tests are skipped where there is none."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(names)} is on the PATH")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu"]
        with playwright.chromium.launch(executable_path=program, args=arguments) as browser:
            yield browser


@pytest.fixture(scope="module")
def frozen() -> Iterator[None]:
    """What is imported is no garbage: every count of bytes would look through it once more."""
    gc.freeze()
    yield
    gc.unfreeze()

"""Peers as seen from here: a flow of another library, in a process that times its own calls."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Self

import numpy as np

from benchmarks.core.case import Case
from benchmarks.measure import foreign
from benchmarks.measure.clock import Work, turn
from benchmarks.measure.process import NONE, TIMEOUT, Arrays, Child, ChildError, environment

TIMED = ("log_prob", "step", "sample", "build")


class ForeignError(RuntimeError):
    """A peer that cannot go on; the message is one line that names it and the reason."""

    def __init__(self, module: str, reason: str) -> None:
        super().__init__(f"peer {module.rpartition('.')[2]!r} {reason}")
        self.module = module


@dataclass(frozen=True)
class Reply:
    """Seconds of each run by the peer's own clock, facts of what was built, arrays by name."""

    seconds: list[float]
    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Foreign(Child):
    """A process in which the peer of a module runs with its own threads and precision.

    Raises ForeignError where a package is missing.
    """

    def __init__(
        self, module: str, *, threads: int, device: str = "cpu", dtype: str = "float32"
    ) -> None:
        if fault := foreign.lacking(import_module(module)):
            raise ForeignError(module, fault)
        self.module = module
        variables = environment(threads, device, dtype)
        super().__init__(f"{foreign.__name__}:answering", module, variables=variables)

    def call(
        self,
        name: str,
        options: Mapping[str, Any] = {},
        arrays: Arrays = NONE,
        *,
        repeat: int = 1,
        fetch: bool = True,
        timeout: float = TIMEOUT,
    ) -> Reply:
        """Run a call of the peer ``repeat`` times, from 1, "build" before all others.

        ``fetch`` brings the arrays of its last run. Raises ForeignError if it fails, dies, or takes
        longer than ``timeout`` seconds.
        """
        request = {"call": name, "options": dict(options), "repeat": repeat, "fetch": fetch}
        try:
            answer, fetched = self.ask(request, arrays, timeout)
        except ChildError as error:
            raise ForeignError(self.module, str(error)) from error
        if reason := answer.get("error"):
            raise ForeignError(self.module, f"cannot {name!r}: {reason}")
        return Reply(answer["seconds"], answer["facts"], fetched)


@dataclass(frozen=True)
class Remote:
    """A call of a peer as a work that is timed by the peer's clock."""

    process: Foreign
    name: str

    def seconds(self, calls: int) -> list[float]:
        """Return the seconds of consecutive runs."""
        return self.process.call(self.name, repeat=calls, fetch=False).seconds


@dataclass(frozen=True)
class Fitted:
    """Seconds and losses of updates, (U,) each."""

    seconds: np.ndarray
    loss: np.ndarray

    @property
    def compiling(self) -> float:
        """Seconds by which the first update exceeds the second."""
        return max(0.0, float(self.seconds[0] - self.seconds[1:2].sum()))


@dataclass(frozen=True)
class ForeignFlow:
    """A flow in a process of its own, which times its own calls.

    ``fit``, ``log_prob`` and ``sample`` take and give arrays. FLOPs and bytes cannot be seen from
    here, and are not counted. Each raises ForeignError where the peer fails.
    """

    process: Foreign
    facts: Mapping[str, Any]
    built: tuple[dict[str, Any], Arrays]  # what it was built from
    where: Mapping[str, Any]

    @classmethod
    def start(
        cls,
        stack: ExitStack,
        name: str,
        case: Case,
        x: np.ndarray,
        parameters: int,
        ours: Arrays = NONE,
    ) -> Self:
        """Start a peer's process, which ends with ``stack``, and build the counterpart of a case.

        Its batch is x (N, D); ``ours`` are our flow's weights by name. Raises ForeignError for a
        peer that cannot be used, and ValueError for an unknown name.
        """
        request = case.model_dump(mode="json", include={"dim", "options", "dtype", "device"})
        request |= {"family": case.flow, "seed": case.seeds.init, "parameters": parameters}
        arrays = {"x": x, **{f"{foreign.OURS}{n}": array for n, array in ours.items()}}
        where: dict[str, Any] = {"threads": case.threads, "device": case.device}
        process = stack.enter_context(
            Foreign(foreign.peer(name).__name__, dtype=case.dtype, **where)
        )
        facts = process.call("build", request, arrays).facts
        return cls(process, facts, (request, arrays), where)

    @property
    def timed(self) -> dict[str, Work]:
        """Calls that are timed, by the peer's clock, after `first`."""
        return {name: Remote(self.process, name.replace("build", "construct")) for name in TIMED}

    def fit(self, x: np.ndarray, picks: np.ndarray, rates: np.ndarray, clip: float = 0.0) -> Fitted:
        """Train on, by Adam: an update for each row of ``picks`` (U, N), numbers of rows x (M, D).

        ``rates`` (U,) are the learning rates, ``clip`` the largest norm of a gradient; with one, an
        update whose loss or gradient is not finite is skipped.
        """
        arrays = {"x": x, "picks": picks, "rates": rates}
        return Fitted(**self.process.call("fit", {"clip": clip}, arrays).arrays)

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """(N, D) -> (N,) nats."""
        return self.process.call("log_prob", arrays={"x": x}).arrays["log_prob"]

    def sample(self, n: int) -> np.ndarray:
        """n samples (n, D)."""
        return self.process.call("sample", {"n": n}).arrays["sample"]

    def weights(self) -> Arrays:
        """Weights as they are now, by name."""
        return self.process.call("weights").arrays

    def in_float64(self, stack: ExitStack, weights: Arrays) -> Self:
        """Start the same flow with these weights in float64, in another process."""
        (request, arrays), theirs = self.built, f"{foreign.THEIRS}{{}}".format
        process = stack.enter_context(Foreign(self.process.module, dtype="float64", **self.where))
        given = {**arrays, **{theirs(name): array for name, array in weights.items()}}
        process.call("build", {**request, "dtype": "float64"}, given)
        return replace(self, process=process)

    def precise(self, *calls: str) -> list[dict[str, np.ndarray]]:
        """Arrays of calls on the batch by the weights as they are now in float64."""
        with ExitStack() as stack:
            twin = self.in_float64(stack, self.weights())
            return [twin.process.call(name).arrays for name in calls]

    def first(self) -> dict[str, float]:
        """Seconds of compiling each call: its first run less its second."""
        seconds = {}
        for name in TIMED[:3]:
            (first,), (second,) = (turn(self.timed[name], 1) for _ in range(2))
            seconds[f"{name}_compile_seconds"] = max(0.0, first - second)
        return seconds

    def count(self) -> tuple[dict[str, float], dict[str, Any]]:
        """What is known without a clock, and notes."""
        about = {"module": self.process.module, **self.facts}
        return {"parameters": self.facts["parameters"]}, {"peer": about}

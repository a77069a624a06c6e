"""Peers as seen from here: a flow of another library, in a process that times its own calls."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, Self

import numpy as np

from benchmarks.core.case import Case
from benchmarks.measure import foreign
from benchmarks.measure.clock import Work, compiling
from benchmarks.measure.foreign import Arrays
from benchmarks.measure.process import TIMEOUT, Child, ChildEnded, ChildError, T, environment

RESIDENT = ("log_prob", "gradient")  # calls whose bytes are measured
TIMED = {"log_prob": "log_prob", "step": "step", "sample": "sample", "build": "construct"}


class ForeignError(RuntimeError):
    """A peer that cannot go on; the message is one line that names it and the reason."""

    def __init__(self, module: str, reason: str) -> None:
        super().__init__(f"peer {module.rpartition('.')[2]!r} {reason}")
        self.module = module


@dataclass(frozen=True)
class Fitted:
    """Seconds and losses of updates, (U,) each."""

    seconds: np.ndarray
    loss: np.ndarray

    @property
    def compiling(self) -> float:
        """Seconds by which the first update exceeds the second."""
        return max(0.0, float(self.seconds[0] - self.seconds[1:2].sum()))


class ForeignFlow(Child):
    """A flow in a process of its own, with its own threads and precision, which times its calls.

    ``request`` is what its peer builds it from, with the number of ``threads``. ``timed`` are the
    calls that are timed, by the peer's clock. FLOPs and bytes cannot be seen from here, and are not
    counted. Raises ForeignError where a package is missing; so does each call where the peer fails.
    """

    def __init__(self, module: str, request: Mapping[str, Any]) -> None:
        if fault := foreign.lacking(import_module(module)):
            raise ForeignError(module, fault)
        how = environment(request["threads"], request["device"], request["dtype"])
        super().__init__(foreign.build, module, request, variables=how)
        self.module, self.request = module, request
        self.timed: dict[str, Work] = {name: Remote(self, call) for name, call in TIMED.items()}

    @classmethod
    def of(
        cls, name: str, case: Case, x: np.ndarray, parameters: int, ours: Arrays | None = None
    ) -> Self:
        """Return the counterpart of a case by a peer, with a batch x (N, D).

        ``ours`` are our flow's weights by name. Raises ValueError for an unknown name.
        """
        request = case.model_dump(
            mode="json", include={"dim", "options", "dtype", "device", "threads"}
        )
        request |= {"family": case.flow, "seed": case.seeds.init, "parameters": parameters, "x": x}
        request |= {"ours": ours or {}, "theirs": {}}
        return cls(foreign.peer(name).__name__, request)

    @cached_property
    def facts(self) -> dict[str, Any]:
        return self._ask("build", foreign.facts)

    def arrays(self, name: str, timeout: float = TIMEOUT, **arguments: Any) -> Arrays:
        return self._ask(name, foreign.arrays, name, arguments, timeout=timeout)

    def seconds(self, name: str, calls: int) -> list[float]:
        return self._ask(name, foreign.seconds, name, calls)

    def fit(self, x: np.ndarray, picks: np.ndarray, rates: np.ndarray, clip: float = 0.0) -> Fitted:
        """Train on, by Adam: an update for each row of ``picks`` (U, N), numbers of rows x (M, D).

        ``rates`` (U,) are the learning rates, ``clip`` the largest norm of a gradient; with one, an
        update whose loss or gradient is not finite is skipped.
        """
        return Fitted(**self.arrays("fit", x=x, picks=picks, rates=rates, clip=clip))

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """(N, D) -> (N,) nats."""
        return self.arrays("log_prob", x=x)["log_prob"]

    def in_float64(self, weights: Arrays) -> Self:
        """Return the same flow with these weights in float64, in another process."""
        return type(self)(self.module, {**self.request, "theirs": weights, "dtype": "float64"})

    def precise(self, *calls: str) -> list[Arrays]:
        """Arrays of calls on the batch by the weights as they are now in float64."""
        with self.in_float64(self.arrays("weights")) as twin:
            return [twin.arrays(name) for name in calls]

    def first(self) -> dict[str, float]:
        """Seconds of compiling each call; none where the peer does not compile."""
        works = self.timed.items() if self.facts["compiles"] else ()
        return {f"{n}_compile_seconds": compiling(work) for n, work in works if n != "build"}

    def memory(self) -> dict[str, float]:
        """Bytes by which calls make a fresh process grow, and those saved for backward if known."""
        with type(self)(self.module, self.request) as twin:
            grown = {n: twin._ask(n, foreign.resident, n) for n in RESIDENT if n in self.timed}
        metrics = {f"{name}_resident_bytes": float(value) for name, value in grown.items()}
        if "saved" in self.facts["calls"]:
            metrics["step_saved_bytes"] = float(self.arrays("saved")["bytes"])
        return metrics

    def count(self) -> tuple[dict[str, float], dict[str, Any]]:
        """What is known without a clock, and notes."""
        about = {"module": self.module, **self.facts}
        return {"parameters": self.facts["parameters"]}, {"peer": about}

    def _ask(
        self, name: str, function: Callable[..., T], *arguments: Any, timeout: float = TIMEOUT
    ) -> T:
        try:
            return self.call(function, *arguments, timeout=timeout)
        except ChildEnded as error:
            raise ForeignError(self.module, str(error)) from error
        except (ChildError, ValueError) as error:
            raise ForeignError(self.module, f"cannot {name!r}: {error}") from error


@dataclass(frozen=True)
class Remote:
    """A call of a peer as a work that is timed by the peer's clock."""

    flow: ForeignFlow
    name: str

    def seconds(self, calls: int) -> list[float]:
        return self.flow.seconds(self.name, calls)

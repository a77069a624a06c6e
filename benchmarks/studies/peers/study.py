"""Other libraries beside ours: times and errors of one architecture, likelihoods, speed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import JsonValue, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic import model_validator as validator
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import flows
from benchmarks import datasets
from benchmarks.core.case import Case, Seeds, Settings, canonical, different, filled
from benchmarks.core.record import Record
from benchmarks.core.study import Arrays, Common, Result, Study, register
from benchmarks.datasets import Dataset
from benchmarks.evaluation.likelihood import exact, in_chunks, solve_loosely
from benchmarks.evaluation.scoring import Metrics, likelihood_result
from benchmarks.measure import foreign, process
from benchmarks.measure.calls import COUNTED, Calls, Costed, calls, measured, prepare, rows_of
from benchmarks.measure.clock import Work, compiling, spinning
from benchmarks.measure.peers import RESIDENT, Fitted, ForeignFlow, Remote
from benchmarks.studies.contender import Contender, TrainingStudy, usable
from benchmarks.studies.peers import tables
from benchmarks.training.loop import LEAST, train, update_rates
from benchmarks.training.settings import Training
from benchmarks.training.state import prepared
from flows.budget import trainable
from flows.continuous import Solver
from flows.preprocessing import fit
from flows.threads import threads_by_work
from flows.training import next_picks

USES = ("benchmarks.measure", "benchmarks.measure.foreign", "benchmarks.evaluation")
RATE = 1e-3  # of the updates that move a flow off its initial weights
CHUNK = 1000  # rows for which an ODE is solved together
TIMEOUT = 600.0  # seconds of measuring bytes of ours, with compiling
UPDATE_RATE = 60.0  # updates a second that a plan expects
STARTS = 10.0  # seconds in which it expects a peer's processes to start and compile
OWN = (*tables.MODES, tables.PRODUCTS)  # competitors that are no peers
aten: Any = torch.ops.aten
MULTIPLY: dict[Any, Callable[..., Tensor]] = {  # the bare product of an operator
    **{aten.mm.default: torch.mm, aten.addmm.default: torch.mm},
    **{aten.bmm.default: torch.bmm, aten.baddbmm.default: torch.bmm},
}
# settings of a training that a peer follows
TAKES = {"learning_rate", "clip", "schedule", "decay", "warmup", "preprocessing", "keep"}
TAKES |= {"validations", "validate_every", "validation_rows", "validation_tolerance"}


class GroupMember(Contender, frozen=True):
    """A flow of a library: a member, or the counterpart of a flow of ours by a peer."""

    by: str = ""
    """Peer that has the counterpart of `flow`, in a process of its own; a member if left out."""
    label: str = ""
    """Name in tables; that of the flow, after the peer's, if left out."""

    @property
    def name(self) -> str:
        return self.label or (f"{self.by}_{self.flow}" if self.by else self.flow)

    def usable(self) -> bool:
        """Whether its packages can be used; one line of warning where they cannot."""
        fault = foreign.lacking(foreign.peer(self.by)) if self.by else ""
        if fault:
            warnings.warn(f"flows of {self.by} are left out: it {fault}", stacklevel=1)
        return not fault and usable(self)


class Group(Settings, frozen=True):
    """Flows of one architecture; what it leaves out it takes from the study."""

    name: str
    """Name of the group: of an architecture, whose members it then has. It alone may stand in
    place of the table.
    """
    members: tuple[GroupMember, ...]
    """Flows that are compared; ratios and differences are those to the first."""
    parameters: PositiveInt | None = None
    """Number of trainable parameters of all of them; that of the study if left out."""
    updates: PositiveInt | None = None
    """Updates of each of them; those of the study if left out."""
    same_weights: bool = False
    """Whether all get the initial weights of the first, which then have to have the same shapes."""

    @validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        value = {"name": value} if isinstance(value, str) else value
        if not isinstance(value, Mapping) or "members" in value or "name" not in value:
            return value
        if (name := value["name"]) not in tables.ARCHITECTURES:
            choices = ", ".join(tables.ARCHITECTURES)
            raise ValueError(f"unknown architecture {name!r}; give members or one of: {choices}")
        members = tables.ARCHITECTURES[name]
        return {**value, "members": [{"flow": n, **tables.MEMBERS.get(n, {})} for n in members]}

    @validator(mode="after")
    def _apart(self) -> Self:
        names = [member.name for member in self.members]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"group {self.name!r} has two members {twice[0]!r}: give each a label")
        return self

    def cases(
        self,
        options: LibrariesOptions | LikelihoodsOptions,
        common: Common,
        dim: int,
        how: Mapping[str, Any],
        **fields: Any,
    ) -> Iterator[Case]:
        """The case of each member that can be used, at D, with the settings ``how``.

        Raises ValueError where no width has so many parameters as are asked for.
        """
        size = self.parameters or options.parameters
        settings = {"part": options.part, "group": self.name, "parameters": size}
        seed = common.seeds[0] if "dataset" in fields else 0
        fields = {"study": "peers", "batch": options.batch, **fields}
        for place, entry in enumerate(self.members):
            if entry.usable():
                of_entry = {"member": entry.name} | ({"by": entry.by} if entry.by else {})
                fields["settings"] = {**settings, **of_entry, **how}
                member = entry.model_copy(update={"parameters": size})
                case = member.case(common, dim, options.sizes, seed, **fields)
                yield case.changed(roles={"place": place})


class Groups(Settings, frozen=True):
    """What a part of groups takes from a suite in any case."""

    groups: tuple[Group, ...]
    """Flows that are compared, an architecture a group."""
    sizes: Mapping[str, PositiveInt] = {}
    """Sizes of the networks by name (`hidden`, `depth`, `layers`), for flows that use them."""


class LibrariesOptions(Groups, frozen=True):
    """The options of the part `libraries`."""

    part: Literal["libraries"]
    """The part of the study: times and errors of one architecture by each library."""
    dims: tuple[PositiveInt, ...]
    """Dimensions D of the flows."""
    parameters: PositiveInt = 100_000
    """Number of trainable parameters of every flow, within 5 %; it decides the width."""
    batch: PositiveInt = 64
    """Rows of a batch."""
    updates: PositiveInt = 10
    """Updates that move a flow off its initial weights, at which some densities are exact."""
    tolerance: PositiveFloat = 1e-10
    """Tolerance of the solution in float64 that errors refer to."""
    accuracy: PositiveFloat | None = None
    """Error in nats that solvers are loosened to; without it they stay as they are."""
    seconds: NonNegativeFloat = 15.0
    """Seconds of timing one group at one D; 0 times nothing."""


class Libraries(Study):
    """What the same flow costs in each library, with the error that each makes beside it."""

    name = "peers"
    version = 2  # groups in place of pairs
    interleaved = True
    uses = USES
    Options = LibrariesOptions

    def cases(self, options: LibrariesOptions, common: Common) -> Iterator[Case]:
        names = {"tolerance", "seconds", "accuracy"}
        shared = options.model_dump(include=names, exclude_none=True)
        for dim in options.dims:
            for group in options.groups:
                updates, weights = group.updates or options.updates, None
                for case in group.cases(options, common, dim, shared, updates=updates):
                    if weights:
                        case = case.changed(settings={**case.settings, "weights": weights})
                    yield case
                    if group.same_weights and not weights:
                        weights = {"flow": case.flow, "options": case.options}

    def block(self, case: Case) -> str:
        return f"{case.settings['group']} D={case.dim}"

    def budget(self, case: Case) -> float:
        """Seconds: a part of the timing, the updates, and the solution that errors refer to."""
        return float(case.settings["seconds"]) / 4 + 2 + case.dim / 10

    def measure(self, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
        """Take the errors of all flows, count their calls, then time them in shuffled rounds.

        A peer's flow runs in its own process: its times are by its own clock, compiling apart, and
        nothing of it is counted.
        """
        with ExitStack() as stack:

            def build(case: Case) -> Costed:
                if name := case.settings.get("by"):
                    batch, parameters = rows_of(case)[: case.batch], case.settings["parameters"]
                    theirs = ForeignFlow.of(str(name), case, batch.numpy(), int(parameters))
                    return stack.enter_context(theirs)
                return calls(case)

            yield from measured(cases, _error, build=build)


def _error(case: Case, built: Calls | ForeignFlow) -> dict[str, float]:
    """Largest error of log_prob over the batch, after the updates, against a tight float64 one.

    Where the case asks for an accuracy, its ODE is solved from then on by the loosest tolerances.
    """
    if isinstance(built, ForeignFlow):
        rows = rows_of(case)[: case.batch].numpy()
        picks = np.tile(np.arange(case.batch), (case.updates, 1))
        built.fit(rows, picks, np.full(case.updates, RATE))
        (density,) = built.precise("log_prob")
        return {"log_prob_error": float(np.abs(density["log_prob"] - built.log_prob(rows)).max())}
    flow, batch = built.flow, built.batch
    if source := case.settings.get("weights"):
        copy_weights(prepare(case.changed(**source), batch.cpu()), flow)
    _update(flow, batch, case.updates)
    best, metrics = exact(flow, float(case.settings["tolerance"])), {}
    with torch.no_grad():
        expected = best.log_prob(batch.double())
        if accuracy := case.settings.get("accuracy"):
            solver = case.options.get("solver") or {}
            metrics = solve_loosely(flow, batch, expected, accuracy, solver)
        errors = flow.log_prob(batch) - expected
    return {**metrics, "log_prob_error": errors.abs().max().item()}


def _update(flow: flows.Flow, batch: Tensor, updates: int) -> None:
    """Move a flow off its initial weights."""
    optimiser = torch.optim.Adam(flow.parameters(), lr=RATE)
    for _ in range(updates):
        optimiser.zero_grad()
        flow.loss(batch).backward()
        optimiser.step()


@torch.no_grad()
def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy all parameters in order; ValueError where shapes differ."""
    for one, other in zip_longest(source.parameters(), target.parameters()):
        if one is None or other is None or one.shape != other.shape:
            raise ValueError("same_weights needs two flows with parameters of the same shapes")
        other.copy_(one)


class LikelihoodsOptions(Groups, frozen=True):
    """The options of the part `likelihoods`."""

    part: Literal["likelihoods"]
    """The part of the study: what each library's flow learns in equal updates and seconds."""
    datasets: tuple[str, ...]
    """Data sets, by their names or files."""
    parameters: PositiveInt = 20_000
    """Number of trainable parameters of every flow, within 5 %; it decides the width."""
    batch: PositiveInt = 128
    """Rows of a batch."""
    updates: PositiveInt = 500
    """Updates of the trainings by equal updates."""
    seconds: PositiveFloat = 5.0
    """Seconds of updates of the trainings by equal seconds, alone on the machine."""
    rate_seconds: PositiveFloat = 2.0
    """Seconds in which the rate of updates is measured."""
    training: Training = Training(preprocessing="standardize", learning_rate=3e-3)
    """Settings of all trainings."""
    rows: PositiveInt = 2000
    """Rows of the test set that are scored, at most."""
    tolerance: PositiveFloat = 1e-6
    """Tolerance of ODEs in the test log-likelihood, which is computed in float64."""


class Likelihoods(Study):
    """What each library's flow of one architecture learns in equal updates and equal seconds.

    The rate of updates of each flow is measured first, alone on the machine. It makes of the
    seconds a whole number of updates, the same for all seeds, and compiling counts in none.
    """

    name = "peers"
    uses = (*TrainingStudy.uses, "benchmarks.measure.foreign")
    Options = LikelihoodsOptions

    def cases(self, options: LikelihoodsOptions, common: Common) -> Iterator[Case]:
        """For each data set and flow its rate, then both trainings with each seed."""
        rated = {"stage": "rate", "seconds": options.rate_seconds}
        rated |= {"training": options.training.model_dump()}
        scored = options.model_dump(include={"rows", "tolerance"})
        for name in options.datasets:
            for group in options.groups:
                updates, dim = group.updates or options.updates, datasets.dim(name)
                for rate in group.cases(options, common, dim, rated, dataset=name):
                    yield rate
                    timed = {**rate.settings, **scored, "stage": "seconds"}
                    equal = {**timed, "stage": "updates"}
                    del equal["seconds"]
                    timed["seconds"] = options.seconds
                    for seeds in map(Seeds.of, common.seeds):
                        yield rate.changed(seeds=seeds, settings=equal, updates=updates)
                        yield rate.changed(seeds=seeds, settings=timed, needs=(rate.key,))

    def alone(self, case: Case) -> bool:
        return bool(case.settings["stage"] == "rate")

    def budget(self, case: Case) -> float:
        """Seconds: of the updates, a guess where their number is given, the score, and a start."""
        start = STARTS if case.settings.get("by") else 0.0
        return 2 + start + float(case.settings.get("seconds", case.updates / UPDATE_RATE))

    def resolved(self, case: Case, earlier: Sequence[Record], arrays: Arrays) -> Case:
        """The case with as many updates as its seconds are, by the rate."""
        (rate,) = earlier
        if rate.status != "done":
            raise ValueError(f"its rate of updates is not known: {rate.status}, {rate.reason}")
        updates = int(rate.metrics["update_rate"].median * float(case.settings["seconds"]))
        return case.changed(updates=max(1, updates))

    def result(self, case: Case) -> Result:
        data = datasets.load(str(case.dataset), seed=case.seeds.data)
        settings = case.settings
        rated = float(settings["seconds"]) if settings["stage"] == "rate" else 0.0
        metrics: Metrics
        with ExitStack() as stack:
            if settings.get("by"):
                theirs = ForeignTraining(stack, case, data)
                if rated:
                    return Result(theirs.rate(rated))
                metrics = {**theirs.train()}
                log_prob = theirs.log_prob(data.test[: int(settings["rows"])])
            elif rated:
                return Result({"update_rate": update_rates(case, data, rated)})
            else:
                flow, training = prepared(case, data)
                history = train(flow, data, case, training)
                metrics = {"parameters": trainable(flow), **history.metrics()}
                view = exact(flow, float(settings["tolerance"]))
                log_prob = in_chunks(view, data.test[: int(settings["rows"])], CHUNK).numpy()
        result = likelihood_result(metrics, {}, {}, log_prob, data)
        return result if data.split == "published" else replace(result, arrays={})


class ForeignTraining:
    """The training of a case by a peer, whose processes end with ``stack``.

    Raises ValueError for a setting that no peer follows, ForeignError where the peer fails.
    """

    def __init__(self, stack: ExitStack, case: Case, data: Dataset) -> None:
        self.settings = Training.model_validate(case.settings["training"])
        changed = different(self.settings.model_dump(), Training().model_dump())
        if others := sorted({*changed} - TAKES):
            raise ValueError(
                f"no peer trains with {others[0]} = {changed[others[0]]!r}: leave it at its default"
            )
        if self.settings.schedule == "course":
            raise ValueError("no peer follows schedule = 'course': take 'wsd' or 'cosine'")
        self.case = case
        name = self.settings.preprocessing
        self.scaling = None if name == "none" else fit(name, data.train, data.support)
        self.x, _ = self._scaled(data.train, case.dtype)
        held_out = data.val[: self.settings.validation_rows]
        self.held_out, self.ladj = self._scaled(held_out, case.dtype)
        by, size = str(case.settings["by"]), int(case.settings["parameters"])
        self.flow = stack.enter_context(ForeignFlow.of(by, case, self.x[: case.batch], size))
        self.weights: Mapping[str, np.ndarray] = {}
        self.losses: list[float] = []

    def rate(self, seconds: float) -> dict[str, float]:
        """Measure updates a second in about so many seconds, and those of compiling an update.

        The median update of the second half counts, as in `loop.update_rates`.
        """
        first = self._fit(self._picks(LEAST), np.full(LEAST, self.settings.learning_rate))
        count = max(LEAST, math.ceil(seconds / np.median(first.seconds[1:])))
        timed = self._fit(self._picks(count), np.full(count, self.settings.learning_rate))
        late = timed.seconds[count // 2 :]
        return {"update_rate": float(1 / np.median(late)), "step_compile_seconds": first.compiling}

    def train(self) -> dict[str, float]:
        """Make all updates, and keep the weights that the settings name; return metrics."""
        settings, updates = self.settings, self.case.updates
        shares = [settings.share(update, updates, 0) for update in range(updates)]
        picks, rates = self._picks(updates), settings.learning_rate * np.array(shares)
        best, seconds = self._validated(-math.inf), 0.0
        for start in range(0, updates, settings.every(updates)):
            part = slice(start, start + settings.every(updates))
            fitted = self._fit(picks[part], rates[part])
            self.losses += fitted.loss.tolist()
            seconds += float(fitted.seconds.sum()) - (0.0 if start else fitted.compiling)
            best = self._validated(best)
        skipped = updates - int(np.isfinite(self.losses).sum())
        metrics, _ = self.flow.count()
        metrics |= {"train_updates": updates, "train_process_seconds": seconds}
        return metrics | {"skipped_updates": skipped, "val_ll": best}

    def log_prob(self, x: Tensor) -> np.ndarray:
        """Return log-densities of rows x (N, D), nats (N,), by the weights kept, in float64."""
        z, ladj = self._scaled(x, "float64")
        with self.flow.in_float64(self.weights) as twin:
            return np.asarray(twin.log_prob(z) + ladj)

    def _validated(self, best: float) -> float:
        """Keep the weights as they are now if they are to be kept; return the best score so far."""
        score = float((self.flow.log_prob(self.held_out) + self.ladj).mean())
        if score > best or self.settings.keep == "last":
            self.weights = self.flow.arrays("weights")
        return max(best, score)

    def _fit(self, picks: np.ndarray, rates: np.ndarray) -> Fitted:
        return self.flow.fit(self.x, picks, rates, self.settings.clip)

    def _picks(self, updates: int) -> np.ndarray:
        """Rows of each update (updates, N), those of `flows.training.State.picks`."""
        generator = torch.Generator().manual_seed(self.case.seeds.batches)
        order, batches = torch.empty(0, dtype=torch.long), []
        for _ in range(updates):
            picks, order = next_picks(order, len(self.x), self.case.batch, generator)
            batches.append(picks.numpy())
        return np.stack(batches)

    def _scaled(self, x: Tensor, dtype: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows behind the preprocessing, (N, D), and its log-determinant in float64, (N,)."""
        z, ladj = (x, x.new_zeros(len(x))) if self.scaling is None else self.scaling(x)
        return z.to(getattr(torch, dtype)).numpy(), ladj.numpy()


class Subject(Settings, frozen=True):
    """A flow at one size, as our library has it."""

    flow: str
    """Name of the flow."""
    dim: PositiveInt
    """Dimension D."""
    batch: PositiveInt
    """Rows of a batch."""
    options: Mapping[str, JsonValue] = {}
    """Options of the flow by name, where they differ from its defaults."""


class Entry(Settings, frozen=True):
    """A competitor: a mode of ours or a peer, with changes to the options of every subject."""

    by: str
    """Mode of this project or name of a library. It alone may stand in place of the table."""
    options: Mapping[str, JsonValue] = {}
    """Changes to the options of every subject."""
    label: str = ""
    """Name in tables; that of the mode or library if left out."""

    @validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"by": value} if isinstance(value, str) else value

    @validator(mode="after")
    def _known(self) -> Self:
        if self.by not in (names := (*OWN, *foreign.names())):
            raise ValueError(f"unknown competitor {self.by!r}; choose from: {', '.join(names)}")
        return self


class SpeedOptions(Settings, frozen=True):
    """The options of the part `speed`."""

    part: Literal["speed"]
    """The part of the study: one flow by eager torch, compiled, and by other libraries."""
    subjects: tuple[Subject, ...]
    """Flows at one size each, which all competitors run."""
    competitors: tuple[Entry, ...] = tuple(Entry(by=n) for n in (*tables.MODES, *foreign.names()))
    """Modes of this project and libraries that are compared."""
    gain: PositiveFloat = 1.0
    """Factor on the initial weight matrices; at 1 the fields are too easy to solve."""
    updates: NonNegativeInt = 0
    """Updates that move a flow off its initial weights, at which some densities are exact."""
    tolerance: PositiveFloat = 1e-10
    """Tolerance of the solution in float64 that errors refer to."""
    seconds: NonNegativeFloat = 30.0
    """Seconds of timing one subject; 0 times nothing."""
    busy: NonNegativeInt = 0
    """Processes that keep a core busy each meanwhile, as on a shared node."""
    calls: tuple[tables.CallName, ...] = tables.SPEED_CALLS
    """Calls that are counted and timed."""
    memory: bool = False
    """Whether the growth of fresh processes is measured too."""


class Ours:
    """Our flow as a competitor: its works by the name of a call.

    "gradient" is that of the loss by all parameters, without an optimiser, "adjoint" the same by
    the adjoint ODE, where there is one. Views of the flow that are ``compiled`` compile in their
    first calls.
    """

    def __init__(self, subject: Calls, case: Case) -> None:
        self.subject, self.case = subject, case
        self.needs = case.settings.get("calls", tables.SPEED_CALLS)
        self.compiled, self.notes = case.settings["by"] == "compiled", dict[str, Any]()
        self.views = {"gradient": subject.flow}
        if solver := case.options.get("solver"):
            by_backprop = replace(Solver.of(solver), gradient="backprop")
            by_adjoint = replace(by_backprop, gradient="adjoint")
            self.views = {"gradient": subject.flow.using(solver=by_backprop)}
            self.views["adjoint"] = subject.flow.using(solver=by_adjoint)
        if self.compiled:
            self.views = {name: view.compiled() for name, view in self.views.items()}
        works: dict[str, Work] = {
            "log_prob": self.log_prob,
            "sample": lambda: self.views["gradient"].sample(case.batch),
            **{name: partial(self.gradient, name) for name in self.views},
        }
        self.timed = {name: work for name, work in works.items() if name in self.needs}
        if case.settings["by"] == tables.PRODUCTS:
            self.timed = {name: _products_of(work) for name, work in self.timed.items()}

    def log_prob(self) -> Tensor:
        """Log-densities of the batch, (N,)."""
        with torch.no_grad():
            return self.views["gradient"].log_prob(self.subject.batch)

    def gradient(self, name: str) -> None:
        self.subject.flow.zero_grad()
        self.views[name].loss(self.subject.batch).backward()

    def arrays(self, name: str) -> Mapping[str, np.ndarray]:
        if name == "log_prob":
            return {name: self.log_prob().cpu().numpy()}
        self.gradient(name)
        return {"gradient": _gradient(self.subject.flow)}

    def count(self) -> tuple[dict[str, float], dict[str, Any]]:
        """What is known without a clock, and notes."""
        names = [name for name in COUNTED if name != "sample" or name in self.needs]
        metrics, uncounted = self.subject.count(names)
        return metrics, uncounted | self.notes

    def memory(self) -> dict[str, float]:
        """Bytes by which calls make a fresh process grow; of products alone nothing is known."""
        alone = self.case.settings["by"] == tables.PRODUCTS
        return {} if alone else dict(process.call(resident, self.case, TIMEOUT))

    def first(self) -> dict[str, float]:
        """Seconds of compiling each call, without a cache and by one thread.

        A sampler that cannot be compiled is left out.
        """
        if not self.compiled:
            return {}
        seconds, device = {}, str(self.subject.batch.device)
        self.notes["compiled_without_cache"] = True
        for name in [*self.timed]:
            try:
                with torch._inductor.config.patch(force_disable_caches=True, compile_threads=1):
                    seconds[f"{name}_compile_seconds"] = compiling(self.timed[name], device)
            except (NotImplementedError, ValueError) as error:
                if name != "sample":
                    raise
                del self.timed[name]
                self.notes["no_sample"] = str(error)
        return seconds


def _products_of(work: Any) -> Callable[[], object]:
    """A work that repeats the matrix products of another, which runs once, in a bare loop."""
    products: list[Callable[[], Tensor]] = []

    class Noting(TorchDispatchMode):
        def __torch_dispatch__(self, call: Any, _: Any, args: Any = (), named: Any = None) -> Any:
            result = call(*args, **(named or {}))
            if multiply := MULTIPLY.get(call):
                factors = [matrix.detach() for matrix in args[-2:]]
                products.append(partial(multiply, *factors, out=torch.empty_like(result)))
            return result

    with Noting():
        work()
    return torch.no_grad()(lambda: [product() for product in products])


class Contest(ExitStack):
    """Competitors of one block; at its end their processes end.

    What errors refer to are log_prob (N,) of the batch and the gradient (P,) of the loss, in
    float64: of our weights solved once, for all who have them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._by_weights: dict[bytes, Mapping[str, np.ndarray]] = {}
        self._solutions: dict[str, Mapping[str, np.ndarray]] = {}  # that of each case

    def enter(self, case: Case) -> Ours | ForeignFlow:
        """Build the competitor of a case, and solve for what its errors refer to.

        Raises ForeignError for a peer that cannot be used, ValueError for an unknown name.
        """
        by, subject = str(case.settings["by"]), calls(case)
        flow = subject.flow
        with torch.no_grad():
            for parameter in (p for p in flow.parameters() if p.dim() > 1):
                parameter.mul_(float(case.settings["gain"]))
        _update(flow, subject.batch, case.updates)
        if by in OWN:
            self._solutions[case.key] = self._solution(subject, case)
            return Ours(subject, case)
        ours = {n: p.detach().cpu().numpy() for n, p in flow.named_parameters()}
        x = subject.batch.cpu().numpy()
        peer = self.enter_context(ForeignFlow.of(by, case, x, trainable(flow), ours))
        needs = case.settings.get("calls", tables.SPEED_CALLS)
        peer.timed = {n: Remote(peer, n) for n in needs if n in peer.facts["calls"]}
        if peer.facts["same_weights"]:
            self._solutions[case.key] = self._solution(subject, case)
        else:
            density, slope = peer.precise("log_prob", "gradient")
            self._solutions[case.key] = {**density, **slope}
        return peer

    def errors(self, case: Case, competitor: Ours | ForeignFlow) -> dict[str, float]:
        """Largest error of log_prob (nats), errors of gradients over their norm, NFE and bytes."""
        solution, density = self._solutions[case.key], competitor.arrays("log_prob")
        error = np.abs(density["log_prob"] - solution["log_prob"]).max()
        metrics = {"log_prob_error": float(error)}
        metrics |= {"log_prob_nfe": float(density["nfe"])} if "nfe" in density else {}
        for name in (n for n in ("gradient", "adjoint") if n in competitor.timed):
            error = competitor.arrays(name)["gradient"] - solution["gradient"]
            ratio = np.linalg.norm(error) / np.linalg.norm(solution["gradient"])
            metrics[f"{name}_error"] = float(ratio)
        return metrics | (competitor.memory() if case.settings.get("memory") else {})

    def _solution(self, subject: Calls, case: Case) -> Mapping[str, np.ndarray]:
        """Solve our flow's ODE tightly."""
        weights = b"".join(p.detach().cpu().numpy().tobytes() for p in subject.flow.parameters())
        if weights not in self._by_weights:
            best, x = exact(subject.flow, float(case.settings["tolerance"])), subject.batch.double()
            with torch.no_grad():
                expected = best.log_prob(x).cpu().numpy()
            best.zero_grad()
            best.loss(x).backward()
            self._by_weights[weights] = {"log_prob": expected, "gradient": _gradient(best)}
        return self._by_weights[weights]


def resident(case: Case) -> dict[str, float]:
    """Bytes by which calls of ours make this process grow, by metric."""
    torch.set_num_threads(case.threads)
    subject = calls(case)
    works: Any = Ours(subject, case).timed
    release = subject.flow.zero_grad
    grown = {n: process.growth(works[n], release) for n in RESIDENT if n in works}
    return {f"{name}_resident_bytes": size for name, size in grown.items()}


def _gradient(flow: flows.Flow) -> np.ndarray:
    """Return the gradients of all parameters in order, (P,)."""
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in flow.parameters()]
    return torch.cat([part.flatten() for part in parts]).cpu().numpy()


class Speed(Study):
    """Times of the same calls by all who have the flow, in shuffled turns, with their errors."""

    name = "peers"
    pace = 2
    interleaved = True
    uses = USES
    Options = SpeedOptions

    def cases(self, options: SpeedOptions, common: Common) -> Iterator[Case]:
        """A case for each subject and each competitor that has such a flow."""
        settings = options.model_dump(include={"part", "gain", "tolerance", "seconds", "busy"})
        settings |= options.model_dump(include={"calls", "memory"}, exclude_defaults=True)
        for subject in options.subjects:
            member = flows.members[subject.flow]
            for entry in options.competitors:
                if entry.by in OWN or subject.flow in foreign.peer(entry.by).FAMILIES:
                    changed = filled(entry.options, subject.options)
                    fields = subject.model_dump() | {"study": self.name, "updates": options.updates}
                    fields["options"] = canonical(member.complete(changed))
                    fields["settings"] = {**settings, "by": entry.by}
                    fields["roles"] = {"label": entry.label} if entry.label else {}
                    yield common.case(**fields)

    def block(self, case: Case) -> str:
        size = f"D={case.dim} N={case.batch} H={case.options.get('hidden')}"
        return f"{case.flow} {size} busy={case.settings['busy']}"

    def budget(self, case: Case) -> float:
        """Seconds: a part of the timing, compilation, and the solution that errors refer to."""
        return float(case.settings["seconds"]) / 4 + 15 + min(case.dim, 200) / 4

    def measure(self, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
        """Take all errors and compile, then time in shuffled turns; a failure costs no other.

        Solves take as many threads as where nobody has set them: that is what a user gets.
        """
        busy = partial(spinning, int(cases[0].settings["busy"]))
        with threads_by_work(), Contest() as contest:
            yield from measured(cases, contest.errors, contest.enter, meanwhile=busy, warm=1)


@register
class Peers(Study):
    """Flows of other libraries beside ours, in processes of their own where they need one."""

    name = "peers"
    parts: ClassVar = {"libraries": Libraries(), "likelihoods": Likelihoods(), "speed": Speed()}

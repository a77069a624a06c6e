"""Identities: what continuous flows are derived from, measured as equalities in float64."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Annotated, Any, get_args

from pydantic import Field, JsonValue, PositiveFloat, PositiveInt

from benchmarks.core.case import Case, Settings, canonical
from benchmarks.core.study import Common, Result, Study, register
from benchmarks.evaluation.equalities import IDENTITIES
from benchmarks.studies.contender import Contender, expanded
from flows.continuous.trace import Noise, Trace

Sixteenths = Annotated[int, Field(ge=32, multiple_of=16)]
ESTIMATORS = ("hutchinson", "bottleneck")  # in R^D, and in R^K


class IdentitiesOptions(Settings, frozen=True):
    """The identities study's part of a suite.

    ``flows`` are those whose densities are held against a dense Jacobian, at each of ``dims``;
    ``bottlenecks`` pairs of D and K. All else is asked of the flow cnf.
    """

    flows: tuple[Contender, ...] = (Contender(flow="*"),)
    """Flows whose densities are held against a dense Jacobian."""
    dims: tuple[PositiveInt, ...] = (2, 5)
    """Dimensions D of the flows."""
    sizes: Mapping[str, PositiveInt] = {"hidden": 16, "depth": 2}
    """Sizes of the networks by name (`hidden`, `depth`, `layers`), for flows that use them."""
    times: tuple[str, ...] = ("concat", "concatsquash")
    """Ways in which t enters the layers of the field."""
    blocks: tuple[PositiveInt, ...] = (1, 4, 16, 64)
    """Numbers of blocks of a residual network that is held against Euler's method."""
    methods: tuple[str, ...] = ("euler", "midpoint", "rk4")
    """Methods of fixed steps whose order of convergence is measured."""
    steps: tuple[PositiveInt, ...] = (8, 16, 32, 64, 128)
    """Numbers of steps from which that order is taken."""
    differences: tuple[Sixteenths, ...] = (32, 64)
    """Numbers of steps of the solutions whose differences give d log p/dt, multiples of 16."""
    bottlenecks: tuple[tuple[PositiveInt, PositiveInt], ...] = ((16, 4), (64, 8), (8, 32))
    """Pairs of D and K, the dimension of the bottleneck of Hutchinson's estimate."""
    gain: PositiveFloat = 3.0
    """Factor on the initial weight matrices; at 1 the Jacobian is tiny."""
    batch: PositiveInt = 16
    """Rows on which the two sides of an identity are compared."""
    draws: int = Field(default=4000, ge=100)
    """Estimates of the trace for each row."""


@register
class Identities(Study):
    """What is left of each equality: residual networks, densities, their rate, and traces."""

    name = "identities"
    uses = ("benchmarks.measure", "benchmarks.evaluation", "flows.conformance")
    Options = IdentitiesOptions

    def cases(self, options: IdentitiesOptions, common: Common) -> Iterator[Case]:
        """The cases of each identity, in float64 whatever the suite says; of its first seed."""
        common = replace(common, dtype="float64", seeds=common.seeds[:1])
        for identity, contender, dim, settings in _asked(options):
            yield common.case(
                common.seeds[0],
                study=self.name,
                flow=contender.flow,
                dim=dim,
                options=contender.complete(options.sizes, dim),
                batch=options.batch,
                settings={"identity": identity, "gain": options.gain, **settings},
            )

    def alone(self, case: Case) -> bool:
        """No: nothing is timed."""
        return False

    def budget(self, case: Case) -> float:
        """Seconds."""
        return 3.0 if case.settings["identity"] == "density" else 0.5

    def result(self, case: Case) -> Result:
        """What its identity's own function gives."""
        return IDENTITIES[case.settings["identity"]](case)


def _asked(
    options: IdentitiesOptions,
) -> Iterator[tuple[str, Contender, int, dict[str, JsonValue]]]:
    """Identity, flow, dimension and settings of each case."""
    dim = max(options.dims)
    for time, blocks in product(options.times, options.blocks):
        yield "euler", Contender(flow="cnf", options={"time": time}), dim, {"blocks": blocks}
    for method in options.methods:
        yield "order", Contender(flow="cnf"), dim, {"method": method, "steps": list(options.steps)}
    for contender, dim in product(expanded(options.flows), options.dims):
        yield "density", contender, dim, {}
    for time, dim in product(options.times, options.dims):
        settings: dict[str, JsonValue] = {"steps": list(options.differences)}
        yield "rate", Contender(flow="cnf", options={"time": time}), dim, settings
    for (dim, width), field in product(options.bottlenecks, ("network", "projection")):
        if field == "projection" and width > dim:  # which has no orthonormal columns there
            continue
        for estimator, noise in product(ESTIMATORS, get_args(Noise)):
            trace: Any = canonical(Trace(estimator, noise=noise))
            own = {"bottleneck": width, "trace": trace}
            settings = {"field": field, "draws": options.draws}
            yield "estimate", Contender(flow="ffjord", options=own), dim, settings

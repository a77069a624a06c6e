"""diffrax: a CNF with the field and the weights of ours, and its trace in closed form.

One state for the whole batch, `Dopri5` and `PIDController` with our tolerances and error norm, and
our first step where that is a number; diffrax's own is 0.01. "gradient" goes by
`RecursiveCheckpointAdjoint`, "adjoint" by `BacksolveAdjoint`. A sample is solved for without the
trace, as a user of diffrax would. Kidger, On Neural Differential Equations, 2021,
arXiv:2202.02435.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.measure.foreign import Built, jitted

PACKAGES = ("jax", "diffrax")
EXTRA = "peers"
FAMILIES = ("cnf",)
TAKES = {  # values of our options that have a counterpart here
    "activation": ("tanh",),
    "time": ("concat", "ignore"),
    "depth": (1, 2),
    "layers": (1,),
    "context_dim": (0,),
}
STAGES = 6  # evaluations of a step by Dopri5, whose last one is the next step's first
START = 1  # evaluations before the first step: its first stage


def build(request: Mapping[str, Any]) -> Built:
    """Build a CNF; ValueError for an option without a counterpart."""
    import diffrax
    import jax
    import jax.numpy as jnp

    options = request["options"]
    solver = options["solver"]
    for name, values in TAKES.items():
        if options[name] not in values:
            raise ValueError(f"diffrax has no counterpart of {name} = {options[name]!r}")
    if solver["method"] != "dopri5" or solver["error_norm"] != "all":
        raise ValueError("diffrax solves by method 'dopri5' and error_norm 'all' alone")
    first = solver["first_step"] if isinstance(solver["first_step"], int | float) else None
    x = jnp.asarray(request["x"])
    parameters = {name: jnp.asarray(value) for name, value in request["ours"].items()}

    def norm(state: Any) -> Any:
        """The larger of the root mean squares of the points and of the log-determinants."""
        squares = [jnp.mean(part**2) for part in jax.tree.leaves(state)]
        return jnp.sqrt(jnp.max(jnp.stack(squares)))

    controller = diffrax.PIDController(rtol=solver["rtol"], atol=solver["atol"], norm=norm)

    def solve(field: Any, state: Any, times: tuple[float, float], args: Any, adjoint: Any) -> Any:
        start, end = times
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Dopri5(),
            start,
            end,
            dt0=None if first is None else math.copysign(first, end - start),
            y0=state,
            args=args,
            stepsize_controller=controller,
            adjoint=adjoint,
            max_steps=4096,
        )

    def log_prob(parameters: Any, x: Any, adjoint: Any) -> tuple[Any, Any]:
        layers = _layers(parameters)
        args = (layers, _paths([weight for weight, *_ in layers]))
        solution = solve(_field(jnp, True), (x, jnp.zeros_like(x[:, 0])), (0.0, 1.0), args, adjoint)
        z, ladj = (part[0] for part in solution.ys)
        normal = -0.5 * (z**2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi)
        return normal + ladj, STAGES * solution.stats["num_steps"] + START

    def loss(parameters: Any, x: Any, adjoint: Any) -> Any:
        return -log_prob(parameters, x, adjoint)[0].mean()

    def gradient(adjoint: Any) -> Any:
        return jitted(
            lambda parameters, x: jax.grad(loss)(parameters, x, adjoint),
            parameters,
            x,
            arrays=lambda result: {
                "gradient": jnp.concatenate([result[name].ravel() for name in parameters])
            },
        )

    def sample(parameters: Any, key: Any) -> Any:
        z = jax.random.normal(key, x.shape, x.dtype)
        args = (_layers(parameters), None)
        return solve(_field(jnp, False), z, (1.0, 0.0), args, checkpointed).ys[0]

    checkpointed = diffrax.RecursiveCheckpointAdjoint()
    calls = {
        "log_prob": jitted(
            lambda parameters, x: log_prob(parameters, x, checkpointed),
            parameters,
            x,
            arrays=lambda result: {"log_prob": result[0], "nfe": result[1]},
        ),
        "gradient": gradient(checkpointed),
        "adjoint": gradient(diffrax.BacksolveAdjoint()),
        "sample": jitted(
            sample,
            parameters,
            jax.random.key(request["seed"]),
            arrays=lambda result: {"sample": result},
        ),
    }
    count = sum(value.size for value in parameters.values())
    return Built(calls, {"parameters": count, "same_weights": True, "compiles": True})


def _layers(parameters: Mapping[str, Any]) -> list[tuple[Any, Any, Any]]:
    """Weight (out, in), bias and shift (out,) of each layer of our `MLPField`, in order."""
    layers: dict[int, dict[str, Any]] = {}
    for name, value in parameters.items():
        if match := re.search(r"layers\.(\d+)\.(weight|bias|shift)$", name):
            layers.setdefault(int(match[1]), {})[match[2]] = value
    return [(p["weight"], p["bias"], p.get("shift", 0.0)) for _, p in sorted(layers.items())]


def _paths(weights: list[Any]) -> Any:
    """Products of weights along closed paths, one for each hidden unit or pair of them."""
    first, *middle, last = weights
    return middle[0] * (first @ last).T if middle else (first * last.T).sum(1)


def _field(jnp: Any, traced: bool) -> Callable[..., Any]:
    """The field of x, or of x and its log-determinant, whose rate is the trace."""

    def field(t: Any, state: Any, args: Any) -> Any:
        x = state[0] if traced else state
        (*hidden, (weight, bias, shift)), paths = args
        slopes = []
        for inner, at_zero, rate in hidden:
            x = jnp.tanh(x @ inner.T + (at_zero + rate * t))
            slopes.append(1 - x**2)
        change = x @ weight.T + (bias + shift * t)
        if not traced:
            return change
        trace = slopes[-1] @ paths
        return change, (trace * slopes[0]).sum(1) if len(slopes) == 2 else trace

    return field

"""flowjax: couplings and masked autoregressive flows, affine or by splines.

Layers and depth are ours. The width is that with the number of parameters nearest to ours, since
the layers differ: flowjax permutes columns at random, and has no ActNorm and no linear layer. The
training objective is the mean negative log-likelihood. Ward, FlowJAX: Distributions and Normalizing
Flows in Jax, 2025, https://github.com/danielward27/flowjax.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache, partial
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.measure.foreign.peers import THEIRS, called, weights, width
from benchmarks.measure.foreign.server import Built

PACKAGES = ("jax", "flowjax")
EXTRA = "peers"
FAMILIES = ("realnvp", "maf", "nsf_coupling", "nsf_ar")


def build(request: Mapping[str, Any]) -> Built:
    """Build the counterpart of our flow of the same family."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax
    import paramax

    key = jax.random.key(request["seed"])
    x = jnp.asarray(request["x"])
    rows = len(x)

    def frozen(leaf: Any) -> bool:
        return isinstance(leaf, paramax.NonTrainable)

    @cache
    def count(size: int) -> int:
        shapes = eqx.filter_eval_shape(partial(_flow, request, size), key)
        leaves = jax.tree.leaves(shapes, is_leaf=frozen)
        arrays = [leaf for leaf in leaves if isinstance(leaf, jax.ShapeDtypeStruct)]
        return sum(a.size for a in arrays if jnp.issubdtype(a.dtype, jnp.inexact))

    size = width(count, request["parameters"])
    flow = _flow(request, size, key)
    if given := weights(request, THEIRS):
        leaves, structure = jax.tree.flatten(eqx.filter(flow, eqx.is_array))
        cast = [jnp.asarray(v, old.dtype) for v, old in zip(given.values(), leaves, strict=True)]
        flow = eqx.combine(jax.tree.unflatten(structure, cast), flow)
    start, fixed = eqx.partition(flow, eqx.is_inexact_array, is_leaf=frozen)
    state = {"trained": start}  # as it was fitted

    def density(trained: Any, x: Any) -> Any:
        return eqx.combine(trained, fixed).log_prob(x)

    def loss(trained: Any, x: Any) -> Any:
        return -density(trained, x).mean()

    def draw(trained: Any, key: Any, n: int) -> Any:
        return eqx.combine(trained, fixed).sample(key, (n,))

    def adam(trained: Any, slopes: Any, x: Any, rate: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(trained, x)
        changes, slopes = optax.scale_by_adam().update(gradients, slopes)
        changes = jax.tree.map(lambda change: -rate * change, changes)
        return eqx.apply_updates(trained, changes), slopes, value

    log_prob, gradient, update = jax.jit(density), jax.jit(jax.grad(loss)), jax.jit(adam)
    sample, fresh = jax.jit(draw, static_argnums=2), optax.scale_by_adam().init(start)

    def fit(
        x: Any, updates: int, limit: float = math.inf, batch: int = 0, learning_rate: float = 1e-3
    ) -> Any:
        """Train by Adam, on all rows or on batches of them; seconds and loss of each update."""
        x, slopes, order = jnp.asarray(x), fresh, np.random.default_rng(request["seed"])
        seconds: list[float] = []
        losses: list[float] = []
        while len(seconds) < updates and sum(seconds[1:]) < limit:
            chosen = x[order.permutation(len(x))[:batch]] if batch else x
            begin = perf_counter()
            result = update(state["trained"], slopes, chosen, learning_rate)
            state["trained"], slopes, value = jax.block_until_ready(result)
            seconds.append(perf_counter() - begin)
            losses.append(float(value))
        return {"seconds": np.asarray(seconds), "loss": np.asarray(losses)}

    def weights_of(_: Any) -> dict[Any, Any]:
        fitted = eqx.combine(state["trained"], fixed)
        return dict(enumerate(jax.tree.leaves(eqx.filter(fitted, eqx.is_array))))

    def flat(result: Any) -> dict[str, Any]:
        return {"gradient": jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(result)])}

    def log_prob_of(x: Any = x) -> Any:
        return log_prob(state["trained"], x)

    def samples(n: int = rows) -> Any:
        return sample(state["trained"], key, n)

    calls = {
        "log_prob": called(log_prob_of, lambda result: {"log_prob": result}),
        "gradient": called(lambda: gradient(state["trained"], x), flat),
        "step": called(lambda: update(state["trained"], fresh, x, 0.0)),
        "sample": called(samples, lambda result: {"sample": result}),
        "weights": called(lambda: (), weights_of),
        "construct": called(lambda: eqx.filter(_flow(request, size, key), eqx.is_array)),
        "fit": called(fit, lambda result: result),
    }
    facts = {"parameters": count(size), "hidden": size, "same_weights": False, "compiles": True}
    return Built(calls, facts)


def _flow(request: Mapping[str, Any], size: int, key: Any) -> Any:
    """Return the flow of a request with hidden layers of width ``size``."""
    import jax.numpy as jnp
    from flowjax.bijections import RationalQuadraticSpline
    from flowjax.distributions import Normal
    from flowjax.flows import coupling_flow, masked_autoregressive_flow

    family, options = request["family"], request["options"]
    transformer: Any = None  # flowjax's own affine map
    if family in ("nsf_coupling", "nsf_ar"):
        inner = options["bins"] - 1
        transformer = RationalQuadraticSpline(knots=inner, interval=options["tail_bound"])
    build = masked_autoregressive_flow if family in ("maf", "nsf_ar") else coupling_flow
    return build(
        key,
        base_dist=Normal(jnp.zeros(request["dim"])),
        transformer=transformer,
        flow_layers=options["layers"],
        nn_width=size,
        nn_depth=options["depth"],
    )

"""flowjax: couplings and masked autoregressive flows, affine or by splines.

Layers and depth are ours. The width is that with the number of parameters nearest to ours, since
the layers differ: flowjax permutes columns at random, and has no ActNorm and no linear layer. The
training objective is the mean negative log-likelihood. Ward, FlowJAX: Distributions and Normalizing
Flows in Jax, 2025, https://github.com/danielward27/flowjax.
"""

from collections.abc import Mapping
from functools import cache, partial
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.measure.foreign import Built, called, width

PACKAGES = ("jax", "flowjax")
EXTRA = "peers"
FAMILIES = ("realnvp", "maf", "nsf_coupling", "nsf_ar")


def build(request: Mapping[str, Any]) -> Built:
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
    if weights := request["theirs"]:
        leaves, structure = jax.tree.flatten(eqx.filter(flow, eqx.is_array))
        cast = [jnp.asarray(v, old.dtype) for v, old in zip(weights.values(), leaves, strict=True)]
        flow = eqx.combine(jax.tree.unflatten(structure, cast), flow)
    start, fixed = eqx.partition(flow, eqx.is_inexact_array, is_leaf=frozen)
    state: dict[str, Any] = {"trained": start}  # as it was fitted

    def density(trained: Any, x: Any) -> Any:
        return eqx.combine(trained, fixed).log_prob(x)

    def loss(trained: Any, x: Any) -> Any:
        return -density(trained, x).mean()

    def draw(trained: Any, key: Any, n: int) -> Any:
        return eqx.combine(trained, fixed).sample(key, (n,))

    def adam(trained: Any, slopes: Any, x: Any, rate: Any, clip: float) -> Any:
        value, gradients = jax.value_and_grad(loss)(trained, x)
        norm = optax.global_norm(gradients) if clip else 0.0
        if clip:
            gradients = jax.tree.map(lambda g: g * jnp.minimum(1.0, clip / norm), gradients)
        changes, moved = optax.scale_by_adam().update(gradients, slopes)
        changes = jax.tree.map(lambda change: -rate * change, changes)
        after = eqx.apply_updates(trained, changes), moved
        if clip:  # as ours, which skips what is not finite
            usable = jnp.isfinite(value) & jnp.isfinite(norm)
            after = jax.tree.map(partial(jnp.where, usable), after, (trained, slopes))
        return *after, value

    log_prob, gradient = jax.jit(density), jax.jit(jax.grad(loss))
    update, sample = jax.jit(adam, static_argnums=4), jax.jit(draw, static_argnums=2)
    fresh = optax.scale_by_adam().init(start)

    def fit(x: Any, picks: Any, rates: Any, clip: float) -> Any:
        """Train on by Adam, on the rows that each update picks; seconds and loss of each."""
        x, seconds, losses = jnp.asarray(x), [], []
        for rows, rate in zip(picks, rates, strict=True):
            chosen = x[rows]
            begin = perf_counter()
            result = update(state["trained"], state.get("slopes", fresh), chosen, rate, clip)
            state["trained"], state["slopes"], value = jax.block_until_ready(result)
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
        "step": called(lambda: update(state["trained"], fresh, x, 0.0, 0.0)),
        "sample": called(samples, lambda result: {"sample": result}),
        "weights": called(lambda: (), weights_of),
        "construct": called(lambda: eqx.filter(_flow(request, size, key), eqx.is_array)),
        "fit": called(fit, lambda result: result),
    }
    facts = {"parameters": count(size), "hidden": size, "same_weights": False, "compiles": True}
    return Built(calls, facts)


def _flow(request: Mapping[str, Any], size: int, key: Any) -> Any:
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

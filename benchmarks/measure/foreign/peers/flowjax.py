"""flowjax: couplings and masked autoregressive flows, affine or by splines.

Layers and depth are ours. The width is that with the number of parameters nearest to ours, since
the layers differ: flowjax permutes columns at random, and has no ActNorm and no linear layer. The
training objective is the mean negative log-likelihood. Ward, FlowJAX: Distributions and Normalizing
Flows in Jax, 2025, https://github.com/danielward27/flowjax.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import Any

from benchmarks.measure.foreign.peers import THEIRS, jitted, weights, width
from benchmarks.measure.foreign.server import Built

PACKAGES = ("jax", "flowjax")
EXTRA = "peers"
FAMILIES = ("realnvp", "maf", "nsf_coupling", "nsf_ar")


def build(request: Mapping[str, Any]) -> Built:
    """Build the counterpart of our flow of the same family."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import paramax

    key = jax.random.key(request["seed"])
    x = jnp.asarray(request["x"])

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
    trained, fixed = eqx.partition(flow, eqx.is_inexact_array, is_leaf=frozen)

    def log_prob(trained: Any, x: Any) -> Any:
        return eqx.combine(trained, fixed).log_prob(x)

    def gradient(trained: Any, x: Any) -> Any:
        return jax.grad(lambda trained: -log_prob(trained, x).mean())(trained)

    def sample(trained: Any, key: Any) -> Any:
        return eqx.combine(trained, fixed).sample(key, (len(x),))

    def whole() -> dict[str, Any]:
        leaves = jax.tree.leaves(eqx.filter(flow, eqx.is_array))
        return {str(place): leaf for place, leaf in enumerate(leaves)}

    calls = {
        "log_prob": jitted(log_prob, trained, x, arrays=lambda result: {"log_prob": result}),
        "gradient": jitted(
            gradient,
            trained,
            x,
            arrays=lambda result: {
                "gradient": jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(result)])
            },
        ),
        "sample": jitted(sample, trained, key, arrays=lambda result: {"sample": result}),
        "weights": jitted(lambda: (), arrays=lambda result: whole()),
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

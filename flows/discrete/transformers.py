"""Autoregressive flows whose nets are transformers: a column is a token."""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import flows
from flows.bijection import Pair, bracketed
from flows.discrete.autoregressive import mixed
from flows.discrete.nflows_compat import CompositeTransform
from flows.registry import SIZES, Sizes, check_whole

HEAD, SHARE = 64, 4  # width of a head, at most; hidden columns of an MLP over those of a token
LEAST = 8  # numbers of a token: a norm of two is all but a step
WRITTEN_OUT = 64  # columns up to which attention is plain products, which have all derivatives
SCALES = 4.0, 7.0  # largest |log scale| of an affine map, and of a component
FAR = -50.0  # log-probability below which a quantile starts from its expansion
HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
STEPS = 2  # of Newton's, which carry two derivatives

Cache = list[Tensor]  # keys and values (N, heads, tokens, d) of the tokens so far


class Attention(nn.Module):
    """Causal attention of tokens (N, T, C) in heads of at most 64 columns, ``inside`` in all.

    Vaswani et al., Attention Is All You Need, 2017, arXiv:1706.03762.
    """

    def __init__(self, width: int, inside: int) -> None:
        super().__init__()
        self.heads = -(-inside // HEAD)
        inside = self.heads * -(-inside // self.heads)
        self.inputs = nn.Linear(width, 3 * inside)
        self.output = nn.Linear(inside, width)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """(N, T, C) -> (N, T, C); with a cache, of one token behind those that it holds."""
        q, k, v = self.inputs(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if cache is not None:
            cache[:] = [torch.cat(pair, 2) for pair in zip(cache, (k, v), strict=True)]
            k, v = cache
        if k.shape[2] > WRITTEN_OUT:
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=cache is None)
        else:
            scores = q @ k.mT * q.shape[-1] ** -0.5
            if cache is None:
                scores = scores + scores.new_full(scores.shape[2:], -torch.inf).triu(1)
            attended = scores.softmax(-1) @ v
        return self.output(attended.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and an MLP with one hidden layer, each behind a norm and beside the identity."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norms: Any = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        # half a step beside the width, so that budgets of parameters meet more widths
        self.attention = Attention(width, max(LEAST, -(-(hidden + SHARE // 2) // SHARE)))
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        tokens = tokens + self.attention(self.norms[0](tokens), cache)
        return tokens + self.mlp(self.norms[1](tokens))


class CausalTransformer(nn.Module):
    """P numbers for each of D columns that depend on the columns before it, and on a context.

    A token is the column before, as a multiple of a learned vector, and its place; the context is
    added to all. A token has H / 4 numbers, at least 8, the MLP of a block H: O(N (D H² + D² H))
    for each of ``depth`` blocks, of about 3 H² / 4 parameters. ``start`` are the numbers of every
    column before the training, since the last weights are zero.
    """

    def __init__(self, dim: int, sizes: Sizes, start: Sequence[float]) -> None:
        super().__init__()
        width, context_dim = max(LEAST, -(-sizes.hidden // SHARE)), sizes.context_dim
        draws = (torch.randn(size, device="cpu") for size in (width, (dim, width)))
        device = torch.get_default_device()  # on "meta" torch imports its compiler to draw
        self.value, self.places = (nn.Parameter((0.5 * draw).to(device)) for draw in draws)
        self.context = nn.Linear(context_dim, width) if context_dim else None
        self.blocks: Any = nn.ModuleList(Block(width, sizes.hidden) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, len(start))
        nn.init.zeros_(self.last.weight)
        self.last.bias = nn.Parameter(torch.tensor(start))

    @property
    def structural_zeros(self) -> set[str]:
        """Without a column before another no value is read."""
        return {"value"} if len(self.places) == 1 else set()

    def caches(self, like: Tensor) -> list[Cache]:
        """Caches without a token, for N rows as those of ``like`` (N, ...)."""
        empty = [(len(like), b.attention.heads, 0) for b in self.blocks]
        width = self.blocks[0].attention.output.in_features
        return [[like.new_empty(*shape, width // shape[1])] * 2 for shape in empty]

    def forward(
        self,
        before: Tensor,
        context: Tensor | None,
        columns: slice | None = None,
        caches: Sequence[Cache | None] = (),
    ) -> Tensor:
        """Numbers (N, T, P) of T ``columns``, given the column before each (N, T).

        With caches, of all columns before that.
        """
        places = self.places if columns is None else self.places[columns]
        tokens = before[:, :, None] * self.value + places
        if self.context is not None:
            tokens = tokens + self.context(context)[:, None]
        for block, cache in zip(self.blocks, caches or [None] * len(self.blocks), strict=True):
            tokens = block(tokens, cache)
        return self.last(self.norm(tokens))


def _widened(function: Callable[[Tensor, Tensor], Pair], x: Tensor, numbers: Tensor) -> Pair:
    """function(x, numbers), of half precision in float32."""
    wide = torch.promote_types(x.dtype, torch.float32)
    image, slope = function(x.to(wide), numbers.to(wide))
    return image.to(x.dtype), slope.to(x.dtype)


def _bounded(raw: Tensor, most: float) -> Tensor:
    """A number between ±most, with slope one at zero."""
    return most * torch.tanh(raw / most)


class Affine:
    """z = (x - b) exp(-a), with a between ±4; the identity at the start."""

    iterative, start = "D steps", (0.0, 0.0)

    def forward(self, x: Tensor, numbers: Tensor) -> Pair:
        shift, raw = numbers.unbind(-1)
        log_scale = _bounded(raw, SCALES[0])
        return (x - shift) * (-log_scale).exp(), -log_scale

    def inverse(self, z: Tensor, numbers: Tensor) -> Pair:
        shift, raw = numbers.unbind(-1)
        log_scale = _bounded(raw, SCALES[0])
        return torch.addcmul(shift, z, log_scale.exp()), log_scale


class NormalMixture:
    """z with Φ(z) = F(x), where F is the distribution function of K normal components.

    The smaller of F and 1 - F decides, by its logarithm, so that no tail is cut off. The inverse is
    Newton's iteration within the bracket of the components' own quantiles. At the start the means
    are normal quantiles, and the variance is one.
    """

    iterative = "D steps, iterations"

    def __init__(self, components: int) -> None:
        means = [NormalDist().inv_cdf((k + 0.5) / components) for k in range(components)]
        rest = max(0.05, 1 - sum(mean**2 for mean in means) / components)
        self.start = (*[0.0] * components, *means, *[0.5 * math.log(rest)] * components)

    def forward(self, x: Tensor, numbers: Tensor) -> Pair:
        return _scores(x, *_mixture(numbers))

    def inverse(self, z: Tensor, numbers: Tensor) -> Pair:
        mixture = _mixture(numbers)
        fixed = [part.detach() for part in mixture]
        _, means, log_scales = fixed
        quantiles = means + log_scales.exp() * z.detach()[..., None]
        margin = 1e-3 * (1 + quantiles.abs().amax(-1))
        low, high = quantiles.amin(-1) - margin, quantiles.amax(-1) + margin

        def mapped(x: Tensor) -> Pair:
            score, log_slope = _scores(x, *fixed)
            return score, log_slope.exp()

        x = bracketed(mapped, z.detach(), low, high, (low + high) / 2)
        for _ in range(STEPS):
            score, log_slope = _scores(x, *mixture)
            x = x - (score - z) * (-log_slope).exp()
        return x, -_scores(x, *mixture)[1]


def _mixture(numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-weights, means and log standard deviations, (..., K) each."""
    logits, means, raw = numbers.unflatten(-1, (3, -1)).unbind(-2)
    return logits.log_softmax(-1), means, _bounded(raw, SCALES[1])


def _scores(x: Tensor, log_weights: Tensor, means: Tensor, log_scales: Tensor) -> Pair:
    """z with Φ(z) = F(x), and log dz/dx."""
    u = (x[..., None] - means) * (-log_scales).exp()
    log_density = (log_weights - log_scales - 0.5 * u * u).logsumexp(-1) - HALF_LOG_TAU
    negative = u < 0
    tail = torch.where(negative, u, -u)
    small = _mills(tail).log() - 0.5 * tail * tail - HALF_LOG_TAU
    large = torch.log1p(-small.exp())
    below, above = (
        (log_weights + torch.where(mask, small, large)).logsumexp(-1)
        for mask in (negative, ~negative)
    )
    lower = below < above
    quantile = _lower_quantile(torch.where(lower, below, above))
    z = torch.where(lower, quantile, -quantile)
    return z, log_density + 0.5 * z * z + HALF_LOG_TAU


def _mills(w: Tensor) -> Tensor:
    """Φ(w) / φ(w), which stays a number however far w is below zero."""
    return math.sqrt(0.5 * math.pi) * torch.special.erfcx(w * -math.sqrt(0.5))


def _lower_quantile(log_p: Tensor) -> Tensor:
    """Φ⁻¹(p) of p up to about a half, by its logarithm; with two derivatives."""
    p = log_p.detach()
    far = -2 * p.clamp(max=FAR)
    w = -(far - 2 * HALF_LOG_TAU - far.log()).sqrt()
    w = torch.where(p > FAR, torch.special.ndtri(p.exp()), w)
    for step in range(2 * STEPS):
        target = p if step < STEPS else log_p
        mills = _mills(w)
        w = w + (target - mills.log() + 0.5 * w * w + HALF_LOG_TAU) * mills
    return w


class Columnwise(nn.Module):
    """A Bijection that maps each column by itself, with numbers from the columns before it.

    One pass of the net from data to noise. From noise to data it takes a column at a time, with
    cached keys: D steps, which together cost about as much as one pass. ``columns`` has
    ``forward(x, numbers)`` and ``inverse(z, numbers)``, (...), (..., P) -> (...), (...): the image
    and the logarithm of its derivative.
    """

    def __init__(self, net: CausalTransformer, columns: Affine | NormalMixture) -> None:
        super().__init__()
        self.iterative = columns.iterative
        self.net, self.columns = net, columns

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        z, slopes = _widened(self.columns.forward, x, self.net(F.pad(x[:, :-1], (1, 0)), context))
        return z, slopes.sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        caches, columns, ladj = self.net.caches(z), [z.new_zeros(len(z))], z.new_zeros(len(z))
        for index, column in enumerate(z.unbind(1)):
            numbers = self.net(columns[-1][:, None], context, slice(index, index + 1), caches)
            x, slope = _widened(self.columns.inverse, column, numbers[:, 0])
            columns.append(x)
            ladj = ladj + slope
        return torch.stack(columns[1:], 1), ladj


@flows.register("tarflow", uses=SIZES)
def tarflow(dim: int, *, sizes: Sizes = Sizes(hidden=128, layers=4)) -> CompositeTransform:
    """TarFlow: affine autoregressive maps by causal transformers, a column a token.

    z_i = (x_i - b(x_<i)) exp(-a(x_<i)), with an ActNorm and reversed columns before each map.
    log_prob is one pass of the net of ``depth`` blocks, O(N L ℓ (D H² + D² H)); a sample takes D
    steps of one column, with cached keys. The log-determinant is the sum -Σ a_i, O(N L D). Up to 64
    columns it has all derivatives, beyond first ones alone. Zhai et al., Normalizing Flows are
    Capable Generative Models, 2024, arXiv:2412.06329.
    Growth in D at fixed width: log_prob 2, sampling 2.
    """
    return _stacked(Affine(), dim, sizes)


@flows.register("transformer_mixture", uses=SIZES)
def transformer_mixture(
    dim: int, *, sizes: Sizes = Sizes(hidden=128, layers=1), components: int = 10
) -> CompositeTransform:
    """Transformer with mixtures: each column is one of K normal components, given those before it.

    As a flow, z_i = Φ⁻¹(F(x_i | x_<i)), with an ActNorm and reversed columns before each of the
    ``layers``, mostly one. log_prob is one pass, O(N L (ℓ (D H² + D² H) + D H K)); a sample takes D
    steps of one column, each a root of F. Derivatives as for `tarflow`. Fakoor et al., TraDE:
    Transformers for Density Estimation, 2020, arXiv:2004.02441; Alcorn and Nguyen, The DEformer,
    2021, arXiv:2106.06989. Raises ValueError for fewer than one of ``components``.
    Growth in D at fixed width: log_prob 2, sampling 2.
    """
    check_whole(components=components)
    return _stacked(NormalMixture(components), dim, sizes)


def _stacked(columns: Affine | NormalMixture, dim: int, sizes: Sizes) -> CompositeTransform:
    nets = (CausalTransformer(dim, sizes, columns.start) for _ in range(sizes.layers))
    return mixed(dim, [Columnwise(net, columns) for net in nets])

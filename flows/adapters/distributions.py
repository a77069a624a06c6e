"""torch distributions over vectors as Flows of known density."""

import copy
from collections.abc import Callable
from typing import Any, Self

import torch
from nflows.transforms import IdentityTransform
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Transform

from flows.adapters.library import log_prob_within
from flows.flow import Flow


class DistributionBase(nn.Module):
    """A torch distribution over R^D as a base density; its tensors follow ``to``.

    It is fixed: nothing in it is trained or saved. Points outside its support have density zero.
    """

    inner: Tensor  # a point of the support (D,)

    def __init__(self, distribution: Distribution) -> None:
        super().__init__()
        self.distribution: Any = distribution
        self.register_buffer("inner", distribution.sample(), persistent=False)

    def log_prob(self, z: Tensor) -> Tensor:
        """(N, D) -> (N,) nats."""
        return log_prob_within(self.distribution, z, self.inner)

    def rsample(self, like: Tensor) -> Tensor:
        """Samples of the shape of ``like`` (n, D).

        NotImplementedError if gradients are enabled and the distribution has no ``rsample``.
        """
        if len(like) == 0:
            return like
        if not torch.is_grad_enabled():
            return self.distribution.sample((len(like),))
        if not self.distribution.has_rsample:
            name = type(self.distribution).__name__
            raise NotImplementedError(f"{name} has no reparameterised samples: use sample()")
        return self.distribution.rsample((len(like),))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self.distribution = _mapped(self.distribution, fn)
        return self


def _mapped(value: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    """A copy of the value with fn applied to every tensor in it, and without torch's validation.

    Points outside a support are of density zero here; torch would raise.
    """
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, list | tuple):
        return type(value)(_mapped(part, fn) for part in value)
    if isinstance(value, Distribution | Transform):
        value = copy.copy(value)
        vars(value).update({name: _mapped(part, fn) for name, part in vars(value).items()})
        if isinstance(value, Distribution):
            value._validate_args = False
    return value


def from_distribution(distribution: Distribution) -> Flow:
    """A distribution over vectors of D entries as a Flow of the same density, its noise the data.

    Independent columns may stand as a batch: ``Normal(loc, scale)`` with loc (D,) is one over R^D.
    Raises TypeError for another type, and ValueError for a discrete distribution, for a batch of
    distributions over vectors and for an unknown support.
    """
    if not isinstance(distribution, Distribution):
        raise TypeError(f"expected a torch Distribution, got {type(distribution).__name__}")
    clone: Any = _mapped(distribution, lambda tensor: tensor.detach().clone())
    if clone.event_shape == () and len(clone.batch_shape) < 2:
        clone = Independent(clone.expand((1,)) if clone.batch_shape == () else clone, 1, False)
    if clone.batch_shape != () or len(clone.event_shape) != 1:
        raise ValueError(
            "expected a distribution over vectors (D,), got one of batch shape "
            f"{tuple(clone.batch_shape)} and event shape {tuple(clone.event_shape)}"
        )
    try:
        discrete = clone.support.is_discrete
    except NotImplementedError as error:
        raise ValueError(f"{type(distribution).__name__} does not tell its support") from error
    if discrete:
        raise ValueError(f"{type(distribution).__name__} is discrete: a Flow is a density")
    return Flow(IdentityTransform(), clone.event_shape[0], 0, DistributionBase(clone))

"""What flows of tests that act are made of."""

import torch
from nflows.transforms import IdentityTransform


class Acting(IdentityTransform):
    """The identity, except that ``act`` comes first; a parameter, which nothing depends on."""

    def __init__(self, act=lambda: None):
        super().__init__()
        self.act = act
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def forward(self, inputs, context=None):
        self.act()
        z, ladj = super().forward(inputs, context)
        return z + 0 * self.unused, ladj

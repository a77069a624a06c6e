"""Handwritten digits of 8 x 8 pixels, which scikit-learn ships: small images, dequantised.

Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 80, 1998,
doi:10.24432/C50P49, CC BY 4.0; the 1,797 images of its test set. A pixel of 0..16 gets uniform
noise in [0, 1) and is divided by 17, so that the log-density bounds that of the pixels: Theis, van
den Oord and Bethge, A note on the evaluation of generative models, 2016, arXiv:1511.01844.
"""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.datasets import Dataset, register, stream
from benchmarks.datasets.tabular import shuffled_split

LEVELS = 17


@register("digits", dim=64)
def digits(root: Path | None, seed: int) -> Dataset:
    """Handwritten digits: 64 grey pixels of 17 levels, dequantised."""
    # Imported here because it takes a second and no other data set needs it.
    from sklearn.datasets import load_digits

    pixels = torch.tensor(load_digits().data, dtype=torch.float64)
    generator = stream(seed, "digits")
    noise = torch.rand(pixels.shape, generator=generator, dtype=pixels.dtype)
    parts = shuffled_split((pixels + noise) / LEVELS, generator)
    sizes = " / ".join(f"{len(part):,}" for part in parts.values())
    return Dataset(
        name="digits",
        dim=pixels.shape[1],
        train=parts["train"],
        val=parts["val"],
        test=parts["test"],
        units="pixels in [0, 1)",
        levels=LEVELS,
        about="Handwritten digits of 8 x 8 pixels (Alpaydin and Kaynak 1998, UCI 80, "
        f"doi:10.24432/C50P49, CC BY 4.0), dequantised by uniform noise; random split: {sizes} "
        "rows.",
    )

"""Small grey images from what scikit-learn ships: patches of photographs, and digits.

Pixels get uniform noise in [0, 1) of a grey level, so that the log-density bounds that of the
pixels: Theis, van den Oord and Bethge, A note on the evaluation of generative models, 2016,
arXiv:1511.01844.

Patches are made the way of BSDS300 (Papamakarios et al., Masked Autoregressive Flow for Density
Estimation, 2017, arXiv:1705.07057): k x k pixels, divided by 256, without their mean and then
without the last pixel, D = k^2 - 1. They overlap, so a random split over patches would leak pixels:
whole tiles of the photographs go to train, val or test, and no patch crosses the edge of a tile.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets import Dataset, Loader, bounds, counts, register, stream
from benchmarks.datasets.tabular import shuffled_split

# Pixels, about. Small tiles spread every part over the scenes: between seeds, the mean test
# log-likelihood of a full-covariance Gaussian (k = 8) has sd 2.8 nats with tiles of 32 pixels and
# 9.0 with 64.
TILE = 32
SHARE = {"val": 0.08, "test": 0.12}  # of the tiles of each photograph; train has the rest
ROWS = {"train": 60_000, "val": 5_000, "test": 20_000}  # at most
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601
LEVELS = 17  # of the digits


class Tile(NamedTuple):
    """A rectangle of one photograph, in pixels, with a unique number."""

    id: int
    photo: int
    top: int
    left: int
    height: int
    width: int


@cache
def photographs() -> Tensor:
    """Load grey levels 0..255 of the two photographs, float64 (2, 427, 640).

    china.jpg (danielbuechele) and flower.jpg (vultilion), both CC BY 2.0. Needs pillow.
    """
    from sklearn.datasets import load_sample_images  # takes a second

    return torch.tensor(np.rint(np.stack(load_sample_images().images) @ np.array(LUMA)))


def tile_split(shape: tuple[int, ...], seed: int) -> dict[str, list[Tile]]:
    """Split the tiles of `shape` = (photographs, height, width), shuffled within each photograph.

    The tiles cover the photographs without overlap, and every part has tiles of each of them.
    """
    count, height, width = shape
    rows, columns = round(height / TILE), round(width / TILE)
    generator = stream(seed, "patches/tiles")
    parts: dict[str, list[Tile]] = {"train": [], "val": [], "test": []}
    for photo in range(count):
        tiles = []
        for cell in range(rows * columns):
            i, j = divmod(cell, columns)
            top, bottom = i * height // rows, (i + 1) * height // rows
            left, right = j * width // columns, (j + 1) * width // columns
            number = photo * rows * columns + cell
            tiles.append(Tile(number, photo, top, left, bottom - top, right - left))
        order = torch.randperm(len(tiles), generator=generator).tolist()
        for part, share in SHARE.items():
            taken = round(share * len(tiles))
            parts[part] += [tiles[n] for n in order[:taken]]
            order = order[taken:]
        parts["train"] += [tiles[n] for n in order]
    return parts


def positions(tiles: list[Tile], k: int, limit: int, generator: torch.Generator) -> Tensor:
    """Draw up to `limit` places of k x k patches inside one tile each: integers (n, 4).

    Columns: tile id, photograph, top, left. Drawn without replacement, in random order.
    """
    blocks = []
    for tile in tiles:
        top = torch.arange(tile.top, tile.top + tile.height - k + 1)
        left = torch.arange(tile.left, tile.left + tile.width - k + 1)
        number, photo = torch.tensor([tile.id]), torch.tensor([tile.photo])
        blocks.append(torch.cartesian_prod(number, photo, top, left))
    places = torch.cat(blocks)
    return places[torch.randperm(len(places), generator=generator)[:limit]]


def cut(photos: Tensor, places: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Cut the patches at `places` (n, 4), dequantised and centred: float64 (n, k^2 - 1)."""
    photo, top, left = (column[:, None, None] for column in places[:, 1:].unbind(1))
    pixels = photos[photo, top + torch.arange(k)[:, None], left + torch.arange(k)]
    noise = torch.rand(pixels.shape, generator=generator, dtype=photos.dtype)
    x = ((pixels + noise) / 256).flatten(1)
    return (x - x.mean(dim=1, keepdim=True))[:, :-1].contiguous()


def _patches(name: str, k: int) -> Loader:
    def load(root: Path | None, seed: int) -> Dataset:
        photos = photographs()
        places: dict[str, Tensor] = {}
        parts: dict[str, Any] = {}
        for part, tiles in tile_split(tuple(photos.shape), seed).items():
            generator = stream(seed, f"{name}/{part}")
            places[part] = positions(tiles, k, ROWS[part], generator)
            parts[part] = cut(photos, places[part], k, generator)
        return Dataset(
            name,
            k * k - 1,
            **parts,
            units="raw units",
            about=f"{k}x{k} grey patches of scikit-learn's two sample photographs (china.jpg by "
            "danielbuechele, flower.jpg by vultilion, CC BY 2.0), made the way of BSDS300 but not "
            "BSDS300. Patches overlap within a part, hence the groups; the parts come from "
            f"disjoint image tiles: {counts(map(len, parts.values()))} rows.",
            # no support: without their mean pixels have no bounds that any comes near
            groups=places["test"][:, 0].clone(),
            val_groups=places["val"][:, 0].clone(),
            suits=("radial",),  # Lyu and Simoncelli, 2009: see flows.preprocessing
        )

    return load


for _k in range(2, 9):
    _name = "patches" if _k == 8 else f"patches{_k}"
    register(_name, version=3, dim=_k**2 - 1)(_patches(_name, _k))  # 3: errors clustered by tile


@register("digits", dim=64)
def digits(root: Path | None, seed: int) -> Dataset:
    """The 1,797 handwritten digits of the test set of UCI 80: 64 grey pixels of 17 levels."""
    from sklearn.datasets import load_digits  # takes a second

    pixels = torch.tensor(load_digits().data, dtype=torch.float64)
    generator = stream(seed, "digits")
    noise = torch.rand(pixels.shape, generator=generator, dtype=pixels.dtype)
    parts: dict[str, Any] = shuffled_split((pixels + noise) / LEVELS, generator)
    return Dataset(
        "digits",
        pixels.shape[1],
        **parts,
        units="pixels in [0, 1)",
        levels=LEVELS,
        support=bounds(*[(0.0, 1.0)] * pixels.shape[1]),
        about="Handwritten digits of 8 x 8 pixels (Alpaydin and Kaynak 1998, UCI 80, "
        f"doi:10.24432/C50P49, CC BY 4.0), dequantised by uniform noise; random split: "
        f"{counts(map(len, parts.values()))} rows.",
    )

"""Patches of photographs: tiles that partition them, parts that share no pixel."""

from __future__ import annotations

import pytest
import torch

from benchmarks import datasets
from benchmarks.datasets import patches

PATCH_SIDES = {"patches": 8} | {f"patches{k}": k for k in range(2, 8)}


every_patch_set = pytest.mark.parametrize(("name", "k"), PATCH_SIDES.items())


@pytest.mark.parametrize("seed", [0, 1])
def test_tiles_partition_the_photographs(seed: int) -> None:
    photos = patches.photographs()
    shape = (photos.shape[0], photos.shape[1], photos.shape[2])
    seen = torch.zeros(shape, dtype=torch.int64)
    split = patches.tile_split(shape, seed)
    for tiles in split.values():
        assert {tile.photo for tile in tiles} == set(range(shape[0]))
        for tile in tiles:
            rows = slice(tile.top, tile.top + tile.height)
            seen[tile.photo, rows, tile.left : tile.left + tile.width] += 1
    assert (seen == 1).all()
    total = sum(map(len, split.values()))
    assert len({tile.id for tiles in split.values() for tile in tiles}) == total
    for part, share in patches.SHARE.items():
        assert len(split[part]) / total == pytest.approx(share, abs=0.01)


@every_patch_set
def test_patches_of_two_parts_share_no_pixel(name: str, k: int) -> None:
    photos = patches.photographs()
    shape = (photos.shape[0], photos.shape[1], photos.shape[2])
    covered = {}
    for part, tiles in patches.tile_split(shape, 0).items():
        places = patches.positions(tiles, k, 10**9, datasets.stream(0, part))  # every place
        spot = places[:, 1:] @ torch.tensor([10**6, 10**3, 1])
        assert len(set(spot.tolist())) == len(places)
        covered[part] = torch.zeros(shape, dtype=torch.bool)
        photo, top, left = places[:, 1:].unbind(1)
        for pixel in range(k * k):
            covered[part][photo, top + pixel // k, left + pixel % k] = True
    assert not (covered["train"] & covered["test"]).any()
    assert not (covered["train"] & covered["val"]).any()
    assert not (covered["val"] & covered["test"]).any()


@every_patch_set
def test_patches_come_from_the_tiles_of_their_part(name: str, k: int) -> None:
    data, photos = datasets.load(name), patches.photographs()
    tiles = patches.tile_split((photos.shape[0], photos.shape[1], photos.shape[2]), 0)
    assert data.dim == k * k - 1
    assert data.groups is not None
    assert set(data.groups.tolist()) == {tile.id for tile in tiles["test"]}


def test_a_patch_is_the_noisy_photograph_minus_its_mean() -> None:
    photos = torch.arange(100.0, dtype=torch.float64).reshape(1, 10, 10)
    places = torch.tensor([[5, 0, 2, 3]])
    x = patches.cut(photos, places, 3, datasets.stream(0, "noise"))
    square = photos[0, 2:5, 3:6].flatten() / 256
    expected = (square - square.mean())[:-1]
    assert x.shape == (1, 8)
    assert ((x[0] - expected).abs() < 1 / 256).all()

"""Degrees of exact counts, by divided differences and without statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise

TAIL = 5  # largest sizes that a polynomial of the larger ones needs: enough for one of degree 3


def exact_polynomial(sizes: Sequence[int], counts: Sequence[int]) -> list[Fraction]:
    """The coefficients, from that of D⁰ up, of the polynomial that exact counts are of.

    By divided differences, without statistics. ValueError below three different sizes, and where
    the counts are of no polynomial that these sizes can tell from an interpolation of them.
    """
    if len(sizes) != len(counts):
        raise ValueError(f"{len(sizes)} sizes, but {len(counts)} counts")
    if odd := [value for value in (*sizes, *counts) if not math.isfinite(value)]:
        raise ValueError(f"sizes and exact counts are finite numbers, got {odd[0]}")
    pairs = sorted(set(zip(map(Fraction, sizes), map(Fraction, counts), strict=True)))
    x = [size for size, _ in pairs]
    if twice := [size for size, after in pairwise(x) if size == after]:
        raise ValueError(f"size {twice[0]} has more than one count")
    if len(x) < 3:
        raise ValueError(f"exact counts need three sizes or more, got {len(x)}")
    differences, leading = [count for _, count in pairs], []
    while len(differences) > 1:
        leading.append(differences[0])
        if len(set(differences)) == 1:
            break
        step = len(leading)
        differences = [
            (b - a) / (x[i + step] - x[i]) for i, (a, b) in enumerate(pairwise(differences))
        ]
    else:
        raise ValueError(f"the counts are of no polynomial of a degree below {len(x) - 1}")
    coefficients = [Fraction(0)]
    for node, difference in zip(reversed(x[: len(leading)]), reversed(leading), strict=True):
        shifted = [Fraction(0), *coefficients]  # (D - node) times what is there, and the difference
        for power, coefficient in enumerate(coefficients):
            shifted[power] -= node * coefficient
        shifted[0] += difference
        coefficients = shifted[: len(coefficients) + 1]
    while len(coefficients) > 1 and not coefficients[-1]:
        coefficients.pop()
    return coefficients


def tail_polynomial(sizes: Sequence[int], counts: Sequence[int]) -> tuple[int, list[Fraction]]:
    """The size from which on exact counts are of one polynomial, and its `exact_polynomial`.

    Of all sizes, or of the larger ones: a factorisation of an H x D matrix has one polynomial
    where D < H and another where D > H. ValueError where the `TAIL` largest are of none.
    """
    pairs = sorted(set(zip(sizes, counts, strict=True)))
    for start in range(max(1, len(pairs) - TAIL + 1)):
        x, y = ([pair[side] for pair in pairs[start:]] for side in (0, 1))
        with suppress(ValueError):
            return x[0], exact_polynomial(x, y)
    raise ValueError(f"the counts at the {TAIL} largest sizes are of no polynomial")

"""Which cases of two results are the same: wherever, and by whatever means, they were measured."""

from __future__ import annotations

from typing import Any

from benchmarks.core import naming as pairs
from benchmarks.core.case import Case, Seeds


def _case(dim: int = 2, **fields: Any) -> Case:
    return Case(study="cost", flow="realnvp", dim=dim, batch=4, **fields)


def _keys(*sides: list[Case]) -> list[list[str]]:
    return [[case.key for case in side] for side in pairs.common(sides)]


def test_a_case_is_the_same_wherever_it_is_measured() -> None:
    places: list[dict[str, Any]] = [
        {}, {"threads": 2}, {"device": "cuda"}, {"dtype": "float64"},
        {"settings": {"seconds": 3.0}},
    ]  # fmt: skip
    keys = _keys(*([_case(**place)] for place in places))
    assert len({key for (key,) in keys}) == 1


def test_what_is_measured_tells_cases_apart() -> None:
    cases = [_case(), _case(3), _case(seeds=Seeds.of(1)), _case(device="meta"), _case(updates=1)]
    assert len({key for (key,) in _keys(*([case] for case in cases))}) == len(cases)


def test_a_side_with_a_case_at_several_places_is_compared_by_them() -> None:
    for field, values in (("threads", (1, 2)), ("dtype", ("float32", "float64"))):
        one, other = (_case(**{field: value}) for value in values)
        (a, b), (c, d) = _keys([one, other], [other, one])
        assert (a, b) == (d, c)
        assert a != b


def test_precision_is_left_out_only_where_each_side_has_one() -> None:
    """A study that compares precisions is not one that was measured in another."""
    single, double = (_case(dtype=name) for name in ("float32", "float64"))
    more = _case(3, dtype="float64")
    (a, _), (b,) = _keys([single, more], [double])
    assert a != b


def test_counted_cases_do_not_keep_timed_ones_from_being_the_same() -> None:
    counted, timed = _case(device="meta"), _case()
    (a, b), (c, d) = _keys([counted, timed], [counted, _case(device="cuda")])
    assert (a, b) == (c, d)
    assert a != b


def test_cases_that_differ_by_their_means_alone_keep_them() -> None:
    brief, long = (_case(settings={"seconds": s}) for s in (1.0, 2.0))
    (a, b), (c,) = _keys([brief, long], [long])
    assert a != b
    assert c == b

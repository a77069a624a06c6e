"""Changes of committed records: of each claim one that confirms it, and one that refutes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.training.baselines import BASELINES
from flows.continuous.trace import Trace

Change = Callable[[pd.DataFrame], pd.DataFrame]


def put(where: str = "", **values: Any) -> Change:
    """Other values of some columns, in the rows that a query finds or in all."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame, rows = frame.copy(), frame.query(where).index if where else frame.index
        for column, value in values.items():
            found = value(frame.loc[rows]) if callable(value) else value
            frame.loc[rows, column.replace("__", ".")] = found
        return frame

    return change


def every(**values: Any) -> Change:
    """The same list in every row of these columns."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(
            **{c.replace("__", "."): [value] * len(frame) for c, value in values.items()}
        )

    return change


def better(where: Callable[[pd.DataFrame], pd.Series]) -> Change:
    """Test likelihoods of these rows above all others, arrays and metric alike."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame, chosen = frame.copy(), where(frame) & frame["test_ll"].notna()
        frame.loc[chosen, "test_ll"] += 1000
        frame["raise"] = np.where(chosen, 1000.0, 0.0)
        return frame

    return change


def of(*flows: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda frame: frame["flow"].isin(flows)


def continuous(frame: pd.DataFrame) -> pd.Series:
    return frame["test_nfe"].notna()


def discrete(frame: pd.DataFrame) -> pd.Series:
    return frame["test_nfe"].isna() & ~frame["flow"].isin(BASELINES)


def bottleneck(rmse: float) -> Change:
    """Another spread of the estimates in the smaller space."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        small = frame["option.trace"].map(
            lambda t: isinstance(t, str | dict) and Trace.of(t).estimator == "bottleneck"
        )
        return frame.assign(trace_rmse=frame["trace_rmse"].mask(small, rmse))

    return change


def count(metric: str, law: str) -> Change:
    """Counts of a batch that grow by a law in dim and hidden, where there are any."""
    hidden = {"hidden": lambda f: f["option.hidden"]}

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        grown = frame.assign(**hidden).eval(f"batch * {law}") if "hidden" in law else None
        values = frame.eval(f"batch * {law}") if grown is None else grown
        return frame.assign(**{metric: values.where(frame[metric].notna())})

    return change


def unchanged(frame: pd.DataFrame) -> pd.DataFrame:
    return frame


quick: dict[str, Any] = {"per_1000_seconds": 1e-9, "sample_rate": 1e12, "train_seconds": 1e-9}
slow: dict[str, Any] = {"per_1000_seconds": 1e3, "sample_rate": 1e-3, "train_seconds": 1e6}
CHANGES: dict[str, tuple[Change, Change]] = {  # what confirms and what refutes
    "residual-network": (unchanged, put(different_elements=3)),
    "adjoint-gradient": (put(gradient_error=1e-9), put(gradient_error=0.1)),
    "mode-collapse": (put(least_share=0.9), put(least_share=0.01)),
    "change-of-variables": (unchanged, put("flow == 'glow'", ladj_error=0.5)),
    "rate-of-change": (
        unchanged,
        every(rate_error__values=[0.2, 0.2], convergence_order__values=[0.0]),
    ),
    "trace-and-determinant": (
        put("`setting.work` == 'determinant'", evaluation_seconds=1e3),
        put("`setting.work` == 'determinant'", evaluation_seconds=1e-12),
    ),
    "hutchinson": (unchanged, put(trace_bias=9.0)),
    "bottleneck-trace": (unchanged, put(cyclic_error=1e-3)),
    "bottleneck-variance": (bottleneck(0.01), bottleneck(9.0)),
    "cost-of-f": (
        count("field_flops", "dim * hidden"),
        count("field_flops", "dim * dim * hidden * hidden"),
    ),
    "cost-of-flows": (count("log_prob_flops", "dim ** 3"), count("log_prob_flops", "dim")),
    "cost-of-cnf": (count("rate_flops", "dim ** 2"), count("rate_flops", "dim ** 3")),
    "cost-of-ffjord": (unchanged, count("rate_flops", "dim ** 3")),
    "cost-in-total": (put(nfe_end=20.0), put(nfe_end=lambda f: f["dim"].astype(float))),
    "data-glow-ffjord": (better(of("ffjord")), better(of("glow"))),
    "useful-instrument": (
        better(lambda f: ~f["flow"].isin(BASELINES)),
        better(of(*BASELINES)),
    ),
    "continuous-faster": (
        put("test_nfe == test_nfe", **quick),
        put("test_nfe == test_nfe", **slow),
    ),
    "continuous-powerful": (better(continuous), better(discrete)),
    "ffjord-fastest": (
        put("flow == 'ffjord'", log_prob_seconds=1e-9, step_seconds=1e-9),
        put("flow == 'ffjord'", log_prob_seconds=1e6, step_seconds=1e6),
    ),
}

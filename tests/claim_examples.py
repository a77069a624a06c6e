"""Made-up records by which a claim has each of its outcomes."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.claims import Outcome
from benchmarks.claims.trained import FASTER
from benchmarks.core.naming import BUDGET, LABEL, STAGE

Example = Callable[[], pd.DataFrame]

ROW: dict[str, Any] = {  # columns of every record, unless an example has them
    "flow": "cnf",
    "dim": 2,
    "dataset": None,
    "batch": 8,
    "updates": 0,
    "seed": 0,
    "data_seed": 0,
    "device": "cpu",
    "dtype": "float32",
    "status": "done",
    "notes": {},
    "arrays": None,
    "run": "examples",
}
DIMS = [2, 3, 5, 8, 12, 16, 24, 32, 48, 64]
HIDDEN = "option.hidden"
FIXED = {HIDDEN: 64}
FOLLOWS = {HIDDEN: lambda row: row["dim"], "setting.hidden_per_dim": 1.0}


def made_up(study: str, *parts: Mapping[str, Any]) -> pd.DataFrame:
    """Frame of made-up records of a study, as `benchmarks.core.frame.load` gives it.

    A part names columns of its records: those given as lists are varied, in a product; those given
    as functions are computed from the row, with what stands before them; any other value, a tuple
    too, is that of every row.
    """
    rows: list[dict[str, Any]] = []
    for part in parts:
        varied = [name for name, value in part.items() if isinstance(value, list)]
        for values in product(*(part[name] for name in varied)):
            row = {**ROW, **part, **dict(zip(varied, values, strict=True)), "study": study}
            row["key"] = f"{study}-{len(rows)}"
            for name, value in part.items():
                row[name] = value(row) if callable(value) else row[name]
            rows.append(row)
    return pd.DataFrame(rows)


def densities(levels: Mapping[str, float], turn=1.0, scatter=0.01, **columns: Any) -> pd.DataFrame:
    """Made-up densities of flows on two data sets, by the mean test log-likelihood of each, nats.

    Five seeds, each with a draw of the data. A seed scatters by 0.1 around the mean, alike for all
    flows, and by ``scatter`` of its own. On the second set the means are ``turn`` times as large.
    """
    continuous = {"test_nfe": 50.0, "log_prob_nfe": 50.0}
    data = {"split": "drawn", "rows": {"train": 400, "val": 400, "test": 400}}
    parts = [
        {
            "flow": flow,
            "dataset": ["2spirals", "checkerboard"],
            "seed": [0, 1, 2, 3, 4],
            "data_seed": lambda row: row["seed"],
            "updates": 0 if flow in ("gaussian", "mixture") else 500,
            "test_ll": partial(_level, level=level, turn=turn, scatter=scatter),
            "notes": {"data": data},
            "val_ll": level,
            "arrays": lambda row: {"test_log_prob": np.full(400, row["test_ll"])},
            "parameters": 1000.0,
            "train_seconds": 10.0,
            **(continuous if flow in ("cnf", "ffjord", "rnode") else {}),
            **columns,
        }
        for flow, level in levels.items()
    ]
    return made_up("density", *parts)


def searched(levels: Mapping[str, float], **how: Any) -> pd.DataFrame:
    """Made-up finals of a search: `densities` at its last budget; far lower, in reverse, before."""
    parts = []
    early = {flow: -10.0 - level for flow, level in levels.items()}
    for budget, own in ((15.0, early), (60.0, levels)):
        rows = densities(own, **how)
        trained = rows["updates"] > 0
        columns: dict[str, Any] = {
            "study": "search",
            "key": [f"{key}-{budget:g}" for key in rows["key"]],
            STAGE: pd.Series("final", rows.index).where(trained, None),
            LABEL: rows["flow"].where(trained, None),
            BUDGET: pd.Series(budget, rows.index).where(trained),
        }
        parts.append(rows.assign(**columns)[trained | (own is levels)])
    return pd.concat(parts, ignore_index=True)


def _level(row: Mapping[str, Any], level: float, turn: float, scatter: float) -> float:
    """Test log-likelihood of a seed on its draw of the data."""
    seeds = ((0, row["seed"]), (0, row["seed"], *row["flow"].encode()))
    shared, own = (np.random.default_rng(seed).standard_normal() for seed in seeds)
    mean = level * (turn if row["dataset"] == "checkerboard" else 1.0)
    return float(mean + 0.1 * shared + scatter * own)


def _residual_network(different: int = 0, order: float = 1.0) -> pd.DataFrame:
    """Networks with so many different elements, and this order of Euler's method."""
    equal = {"setting.identity": "euler", "setting.blocks": [1, 64]}
    falling = {
        "setting.identity": "order",
        "setting.steps": (8, 16),
        "dim": 5,
        "setting.method": ["euler", "rk4"],
        "convergence_order.values": lambda row: (
            order if row["setting.method"] == "euler" else 4.0,
        ),
        "solver_error.values": lambda row: (0.1, 0.1 * 2 ** -row["convergence_order.values"][0]),
    }
    return made_up("numerics", {**equal, "different_elements": float(different)}, falling)


def _adjoint_gradient(ratio: float) -> pd.DataFrame:
    """Gradients of a trained field, the adjoint's with so many times backprop's error."""
    solvers = [
        {"method": "dopri5", "step_size": None, "rtol": rtol, "gradient": gradient}
        for rtol in (1e-3, 1e-6)
        for gradient in ("adjoint", "backprop")
    ]

    def error(row: Mapping[str, Any]) -> float:
        return 1e-4 * (ratio if row["option.solver"]["gradient"] == "adjoint" else 1.0)

    metrics = {"gradient_error": error, "gradient_bytes": 1e6, "nfe_forward": 50.0}
    return made_up("numerics", {"updates": 500, "option.solver": solvers, **metrics})


def _change_of_variables(error: float = 1e-12, mass: float = 1e-3) -> pd.DataFrame:
    """Flows of which one has these errors of its log-determinant, nats, and of its mass."""

    def flat(value: float) -> Callable[[Mapping[str, Any]], float | None]:
        return lambda row: value if row["dim"] == 2 else None

    common = {"setting.identity": "density", "dim": [2, 5], "ladj_bound": 1e-9}
    common |= {"mass_bound": flat(1e-2)}
    sound = {"flow": ["cnf", "maf"], "ladj_error": 1e-12, "mass_error": flat(1e-3)}
    other = {"flow": "glow", "ladj_error": error, "mass_error": flat(mass)}
    return made_up("numerics", common | sound, common | other)


def _rate_of_change(order: float) -> pd.DataFrame:
    """Differences that fall with this order as the steps are doubled."""
    fields = {"setting.identity": "rate", "option.time": ["concat", "concatsquash"]}
    errors = {"rate_error.values": (1e-4, 1e-4 * 2**-order), "convergence_order.values": (order,)}
    return made_up("numerics", {**fields, "setting.steps": (32, 64), **errors})


def _hutchinson(bias: float = 2.0, spread: float = 1.0) -> pd.DataFrame:
    """Estimates with this largest z of a mean, and this spread over that of theory."""
    noises = [{"estimator": "hutchinson", "noise": n} for n in ("gaussian", "rademacher")]
    fields = {"setting.identity": "estimate", "setting.draws": 4000, "option.trace": noises}
    errors = {"trace_rmse": spread, "trace_rmse_theory": 1.0, "trace_rmse_se": 0.01}
    return made_up("numerics", {**fields, **errors, "trace_bias": bias})


def _bottleneck_trace(difference: float) -> pd.DataFrame:
    """Traces that differ by so much of the Jacobian's norm."""
    fields = {"setting.identity": "estimate", "dim": [16, 64], "option.bottleneck": 4}
    return made_up("numerics", {**fields, "cyclic_error": difference})


def _bottleneck_variance(rmse: float, error: float = 0.01) -> pd.DataFrame:
    """Estimates of an error of one in R^D, and of another in R^H."""
    common = {"setting.identity": "estimate", "setting.field": ["network", "projection"]}
    common |= {"dim": 16, "option.bottleneck": 4, "cyclic_error": 1e-16}
    common |= {"trace_rmse_se": error, "trace_rmse_theory": 1.0, "trace_bias": 1.0}
    large = {"option.trace": {"estimator": "hutchinson"}, "trace_rmse": 1.0}
    small = {"option.trace": {"estimator": "bottleneck"}, "trace_rmse": rmse}
    return made_up("numerics", common | large, common | small)


def _trace_and_determinant(determinant: float, loop: float = 1.0) -> pd.DataFrame:
    """Traces of a field that take a second, but for the loop, and the seconds of a determinant."""

    def of(work: str, trace: Any, seconds: float = 1.0, **columns: float) -> dict[str, Any]:
        taken = {"evaluation_seconds": seconds, "evaluation_seconds.values": (seconds,)}
        common = {"dim": [8, 64], "setting.work": work, "option.trace": trace, **taken}
        return {**common, "evaluation_flops": 1.0, **columns}

    by_loop = {"estimator": "loop"}
    probes = [{"estimator": "hutchinson", "probes": n} for n in (1, 2)]
    return made_up(
        "trace",
        of("field", by_loop),
        of("trace", by_loop, loop, trace_error=1e-7),
        of("trace", {"estimator": "closed_form"}, trace_error=1e-7),
        of("trace", probes, trace_rmse=0.1, trace_rmse_se=0.01),
        of("determinant", by_loop, determinant),
    )


def _of_dim(degree: int) -> Callable[[Mapping[str, Any]], float]:
    """Counts of a batch that grow with D to this power."""
    return lambda row: float(row["batch"] * row["dim"] ** degree)


def _of_product(power: int) -> Callable[[Mapping[str, Any]], float]:
    """Counts of a batch that grow with D H to this power."""
    return lambda row: row["batch"] * float(row["dim"] * row[HIDDEN]) ** power


def _cost_of_f(power: int) -> pd.DataFrame:
    """FLOPs of a field at a fixed width, at H = D, and along H."""
    counts = {"option.depth": 2, "field_flops": _of_product(power)}
    scans = ({"dim": DIMS, **width, **counts} for width in (FIXED, FOLLOWS))
    return made_up("cost", *scans, {"dim": 8, HIDDEN: DIMS, **counts})


def _cost_of_flows(degree: int) -> pd.DataFrame:
    """FLOPs of log_prob of two discrete flows."""
    counts = {"log_prob_nfe": 0.0, "log_prob_flops": _of_dim(degree)}
    return made_up("cost", {"flow": ["dense", "glow"], "dim": DIMS, **FIXED, **counts})


def _cost_of_cnf(degree: int) -> pd.DataFrame:
    """FLOPs of an evaluation with an exact trace."""
    trace = {"option.trace": {"estimator": "closed_form"}, "option.depth": 2}
    common = {"dim": DIMS, **trace, "rate_flops": _of_dim(degree)}
    return made_up("cost", {**FIXED, **common}, {**FOLLOWS, **common})


def _cost_of_ffjord(share: float, power: int = 1, timed: bool = True) -> pd.DataFrame:
    """Costs of an evaluation of FFJORD whose trace takes this share of those of f, (D H)^power."""
    common = {
        "flow": "ffjord",
        "option.trace": {"estimator": "hutchinson"},
        "option.depth": 2,
        "field_flops": _of_product(power),
        "rate_flops": lambda row: (1 + share) * row["field_flops"],
        **({"field_seconds": 1.0, "rate_seconds": 1.0 + share} if timed else {}),
    }
    return made_up("cost", *({"dim": DIMS, **width, **common} for width in (FIXED, FOLLOWS)))


def at_equal_fit(*slopes: float, scatter: float = 0.0) -> pd.DataFrame:
    """Evaluations that grow with D to these powers, one a tolerance, where 0.9 of a gap is closed.

    The gap is closed half way through the training; what follows grows with D, whatever they are.
    The evaluations of a dimension deviate together, by a relative scatter.
    """
    shares = np.array([0.0, 0.5, 0.9, 1.0])

    def curves(row: dict[str, Any]) -> dict[str, np.ndarray]:
        growth = np.array([float(row["dim"]) ** slope for slope in slopes])
        growth *= 1 + scatter * (-1) ** row["dim"].bit_length()
        nfe = 20 * np.outer(1 + shares, growth)
        nfe[-1] *= row["dim"]
        updates = np.arange(4) * 100
        axes = {"updates": updates, "validated": updates, "validation_ll": shares - row["dim"]}
        return {**axes, "nfe": nfe, "tolerances": 10.0 ** -np.arange(3, 3 + len(slopes))}

    trainings = {
        "flow": ["cnf", "ffjord"],
        "dim": [2, 4, 8, 16, 32, 64],
        "dataset": lambda row: f"mixture_{row['dim']}",
        "option.hidden": 64,
        "nfe_end": lambda row: 40.0 * row["dim"],
        "gaussian_ll": lambda row: float(-row["dim"]),
        "val_ll": lambda row: 1.0 - row["dim"],
        "truth_ll": lambda row: 1.0 - row["dim"],
        "arrays": curves,
    }
    return made_up("nfe", trainings)


def _examples(one: str, other: str) -> list[tuple[Outcome, Example]]:
    """Made-up densities and searches in which the first of two flows leads by so many nats."""

    def lead(nats: float, make: Callable[..., pd.DataFrame] = densities, **how: float) -> Example:
        return partial(make, {one: nats, other: 0.0}, **how)

    return [
        ("confirmed", lead(1.0)),
        ("refuted", lead(-1.0)),
        ("refuted", lead(0.001, scatter=0.001)),
        ("conditional", lead(1.0, turn=-1.0)),
        ("undecided", lead(1.0, scatter=2.0)),
        ("confirmed", lead(2.0, searched)),  # at the largest budget; the reverse at a smaller one
        ("refuted", lead(-2.0, searched)),
    ]


def _mode_collapse(share: float, failed: str = "") -> pd.DataFrame:
    """Trainings of two flows whose least visited mode has this share of its due mass.

    One by likelihood has failed, of the flow of this name.
    """
    trainings = {"flow": ["cnf", "maf"], "dataset": "8gaussians", "updates": 500}
    masses = {"least_mass": share, "modes_missed": float(8 * (share < 0.1)), "gap_mass": 0.02}
    objectives = {"setting.objective": ["likelihood", "reverse_kl"]}
    rows = made_up("modes", {**trainings, **objectives, **masses})
    of_flow = (rows["flow"] == failed) & (rows["setting.objective"] == "likelihood")
    rows.loc[rows.index[of_flow][:1], "status"] = "failed"
    return rows


def timed_example(seconds: dict[str, float], scatter: float = 0.01) -> pd.DataFrame:
    """Made-up densities of flows, each with these seconds of all that is timed, and a scatter."""

    def of(row: Any) -> float:
        noise = np.random.default_rng([row["seed"], len(row["flow"])]).normal()
        return float(seconds[row["flow"]] * np.exp(scatter * noise))

    def curve(row: Any) -> dict[str, np.ndarray]:
        times = np.array([0.0, of(row)])
        return {"validation_ll": np.array([-2.0, -1.0]), "validation_cpu_seconds": times}

    return densities(
        dict.fromkeys(seconds, 0.0),
        per_1000_seconds=of,
        sample_rate=lambda row: 1 / of(row),
        train_seconds=of,
        arrays=curve,
    )


def _by_outcome(make: Callable[..., pd.DataFrame], **values: Any) -> list[tuple[Outcome, Example]]:
    """An example of each outcome, made with the value that leads to it."""
    return [(outcome, partial(make, value)) for outcome, value in values.items()]


EXAMPLES: dict[str, list[tuple[Outcome, Example]]] = {
    "residual-network": [
        ("confirmed", _residual_network),
        ("refuted", partial(_residual_network, different=3)),
        ("refuted", partial(_residual_network, order=2.0)),
    ],
    "adjoint-gradient": _by_outcome(_adjoint_gradient, confirmed=1.0, refuted=10.0),
    "change-of-variables": [
        ("confirmed", _change_of_variables),
        ("refuted", partial(_change_of_variables, error=0.5)),
        ("refuted", partial(_change_of_variables, mass=0.5)),
    ],
    "rate-of-change": _by_outcome(_rate_of_change, confirmed=4.0, refuted=0.0),
    "hutchinson": [
        ("confirmed", _hutchinson),
        ("refuted", partial(_hutchinson, bias=9.0)),
        ("refuted", partial(_hutchinson, spread=2.0)),
    ],
    "bottleneck-trace": _by_outcome(_bottleneck_trace, confirmed=1e-16, refuted=1e-3),
    "bottleneck-variance": [
        *_by_outcome(_bottleneck_variance, confirmed=0.5, refuted=2.0),
        ("undecided", partial(_bottleneck_variance, 0.9, error=0.1)),
    ],
    "trace-and-determinant": [
        *_by_outcome(_trace_and_determinant, confirmed=10.0, refuted=0.1),
        ("conditional", partial(_trace_and_determinant, 10.0, loop=100.0)),
    ],
    "cost-of-f": _by_outcome(_cost_of_f, confirmed=1, refuted=2),
    "cost-of-flows": _by_outcome(_cost_of_flows, confirmed=3, refuted=4, conditional=1),
    "cost-of-cnf": _by_outcome(_cost_of_cnf, confirmed=2, refuted=3),
    "cost-of-ffjord": [
        ("confirmed", partial(_cost_of_ffjord, 1)),
        ("refuted", partial(_cost_of_ffjord, 9, power=2)),
        ("conditional", partial(_cost_of_ffjord, 9)),
        ("undecided", partial(_cost_of_ffjord, 1, timed=False)),
    ],
    "cost-in-total": [
        ("confirmed", partial(at_equal_fit, 0.0)),
        ("confirmed", partial(at_equal_fit, 0.0, 0.1)),
        ("refuted", partial(at_equal_fit, 0.5, 1.0)),
        ("conditional", partial(at_equal_fit, -0.5, 0.0)),
        ("undecided", partial(at_equal_fit, 0.2, scatter=0.3)),
    ],
    "data-glow-ffjord": _examples("ffjord", "glow"),
    "useful-instrument": _examples("maf", "gaussian"),
    "continuous-powerful": _examples("cnf", "glow"),
    "mode-collapse": [
        *_by_outcome(_mode_collapse, confirmed=0.9, refuted=0.01),
        ("undecided", partial(_mode_collapse, 0.9, failed="cnf")),
    ],
    **{
        f"continuous-faster-{call}": [
            ("confirmed", partial(timed_example, {"cnf": 0.1, "glow": 1.0})),
            ("refuted", partial(timed_example, {"cnf": 10.0, "glow": 1.0})),
            ("undecided", partial(timed_example, {"cnf": 2.0, "glow": 1.0}, scatter=2.0)),
        ]
        for call in FASTER
    },
    "ffjord-fastest": [
        ("confirmed", partial(timed_example, {"ffjord": 0.5, "cnf": 1.0, "rnode": 1.0})),
        ("refuted", partial(timed_example, {"ffjord": 2.0, "cnf": 1.0, "rnode": 1.0})),
    ],
}

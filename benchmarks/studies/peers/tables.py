"""Tables of the peers: what tells architectures apart, times and errors, likelihoods, ratios."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import paired
from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.inference import ratio_of_medians
from benchmarks.core.exhibit import RECORDS, Column, Table, cells, selected
from benchmarks.core.metrics import METRICS, SCALES
from benchmarks.core.naming import name_runs

# An architecture by each library that has it: the first member, ours, is the reference. Beside each
# stands what tells it from the others. s is the scale of an affine map, u what its network gives.
TRAITS = {
    "normalisation": "Normalisation",
    "mixing": "Between layers",
    "map": "Map",
    "network": "Network",
}
PERMUTED, ENDS = "random permutation", "ActNorm, and affine maps at both ends"
WITH_LU = f"{PERMUTED} and LU"
ARCHITECTURES: dict[str, dict[str, tuple[str, str, str, str]]] = {
    "realnvp": {
        "realnvp": ("ActNorm", "columns alternate", "ln s = 2 tanh(u / 2)", "ReLU"),
        "zuko_realnvp": ("none", "columns alternate", "ln s = u / (1 + |u| / 6.9)", "ReLU"),
        "normflows_realnvp": ("none", "halves swapped", "ln s = u", "ReLU"),
        "torchflows_realnvp": (ENDS, "columns reversed", "ln s = u / 2", "tanh"),
        "freia_one_sided": ("none", PERMUTED, "ln s = 1.27 arctan(u)", "ReLU"),
        "flowjax_realnvp": ("none", PERMUTED, "s = softplus(u) + 0.01", "ReLU"),
    },
    "maf": {
        "maf": ("ActNorm", "columns reversed", "s = softplus(u) + 0.001", "ReLU"),
        "zuko_maf": ("none", "columns reversed", "ln s = u / (1 + |u| / 6.9)", "ReLU"),
        "normflows_maf": (
            *("none", WITH_LU),
            "s = sigmoid(u + 2) + 0.001, from noise to data: log_prob in D passes",
            "residual, ReLU",
        ),
        "torchflows_maf": (ENDS, "columns reversed", "ln s = u / 2", "tanh"),
        "flowjax_maf": ("none", PERMUTED, "s = softplus(u) + 0.01", "ReLU"),
    },
    "nsf_coupling": {
        "nsf_coupling": ("ActNorm", WITH_LU, "8 bins on ±5", "ReLU"),
        "normflows_nsf_coupling": ("none", WITH_LU, "8 bins on ±3", "residual, ReLU"),
        "torchflows_nsf_coupling": (ENDS, "columns reversed", "8 bins on ±50", "tanh"),
        "flowjax_nsf_coupling": ("none", PERMUTED, "8 bins on ±5", "ReLU"),
    },
    "nsf_ar": {
        "nsf_ar": ("ActNorm", WITH_LU, "8 bins on ±5", "ReLU"),
        "zuko_nsf": ("none", "columns reversed", "8 bins on ±5", "ReLU"),
        "normflows_nsf_ar": ("none", WITH_LU, "8 bins on ±3", "residual, ReLU"),
        "torchflows_nsf_ar": (ENDS, "columns reversed", "8 bins on ±50", "tanh"),
        "flowjax_nsf_ar": ("none", PERMUTED, "8 bins on ±5", "ReLU"),
    },
    "cnf": {  # torchflows' takes one step with a random trace: it has no exact density
        "cnf": ("none", "none", "the trace in closed form; t enters each layer", "ELU"),
        "zuko_cnf": (
            *("none", "none"),
            "the trace by D products; t enters by three sines and cosines",
            "ELU",
        ),
    },
}
TOLERANCES: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}
SOLVER = {"method": "dopri5", **TOLERANCES}
MEMBERS: dict[str, dict[str, Any]] = {  # those that a name alone does not give
    "cnf": {"options": {"layers": 1, "activation": "elu", "solver": SOLVER}},
    "zuko_cnf": {"options": TOLERANCES},
    **{
        f"flowjax_{flow}": {"flow": flow, "by": "flowjax"}
        for flow in ("realnvp", "maf", "nsf_coupling", "nsf_ar")
    },
}

MODES = ("eager", "compiled")  # of our own flows
SPEED_CALLS = ("log_prob", "gradient", "adjoint", "sample")
CALLS = {call: METRICS[f"{call}_seconds"].name for call in ("log_prob", "step", "sample", "build")}
KNOWN = {  # metrics of a member, and how they are shown
    "parameters": ",.0f",
    "log_prob_error": ".1e",
    "log_prob_flops": ".4g",
    "log_prob_nfe": ".0f",
}
COMPILED = ("log_prob", "step", "sample")  # calls that a peer compiles
STAGES = {"updates": "equal updates", "seconds": "equal seconds"}  # what is equal in a group
STANDS = {"ahead": "ahead", "level": "level", "behind": "behind", "open": "not told apart"}
FLOPS = {"log_prob": "log_prob_flops", "gradient": "step_flops"}  # counted of eager flows, by call
ROWS = 1536  # of the square matrices whose product measures the machine's peak
MATMUL_FLOPS = 2 * ROWS**3
EQUAL = 2.0  # factor between two errors up to which they count as equal
FLOOR = 1e-5  # below which errors, nats or of a gradient, are those of rounding: equal
SUBJECT = ["flow", "dim", "batch", "option.hidden", "setting.busy"]

DIFFERENCES = (
    "Members of a group have as many layers, hidden layers of their networks and, within 5%, "
    "trainable parameters. What else differs is each library's own way to build the architecture. "
    "s: the scale of an affine map, u: what its network gives."
)
LIBRARIES = (
    "Medians of one call on the whole batch, timed in the same shuffled rounds, with the "
    "interquartile range in brackets. Ratio: the median over the first member's, with a 95 % "
    "bootstrap interval; above 1 the first is faster. Compiling is in no other time; in calls it "
    "is the number of calls that take as long. Error: the largest error of log_prob over the "
    "batch, relative to the same weights in float64; a ratio is a fair comparison only if both "
    "errors are about the same."
)
LIKELIHOODS = (
    f"Mean test log-likelihood in nats over seeds, ± half of its {1 - LEVEL:.0%} interval, after "
    "equal updates, and after as many updates as equal seconds have room for, without compiling, "
    "by the rate that was measured first. Difference: to the first member, paired by seed and "
    "split, with its interval in brackets. Against the first a member is ahead, level, behind or "
    f"not told apart, tested together for its group at a level of {LEVEL:g} (Student's t, Holm)."
)
SPEED = (
    "Median of one call on the whole batch, timed in the same shuffled turns, with the "
    "interquartile range in brackets. Peak: FLOPs of the eager flow's call over the time, as a "
    "share of those of a large matrix product beside it. Error: the largest of log_prob over the "
    "batch, and that of the gradient over its norm, relative to a float64 solution. Compile time "
    "is the first call minus the second; no other time includes it. Busy: processes that kept a "
    "core each busy meanwhile."
)
RATIOS = (
    "Median time of ours over that of the other library's, with a 95 % bootstrap interval: below 1 "
    "ours is faster. Errors are those of log_prob (nats, the largest) and of gradients (over their "
    f"norm). They are equal within a factor of {EQUAL:g}, or where both are below {FLOOR:g}, which "
    "is rounding; otherwise the ratio compares two accuracies."
)


def tables(frame: pd.DataFrame) -> list[Table]:
    """The tables of each part that has records; what tells the members of groups apart."""
    parts = dict(list(frame.groupby("setting.part", sort=False)))
    builders = {"libraries": libraries, "likelihoods": likelihoods, "speed": speed}
    listed = [table for part in builders if part in parts for table in builders[part](parts[part])]
    return [*listed, *differences(frame[frame["setting.part"] != "speed"])]


def differences(frame: pd.DataFrame) -> list[Table]:
    """The table of what tells the members of records apart; none where nothing is known."""
    rows = []
    groups = frame.groupby(["setting.group", "setting.member"], sort=False) if len(frame) else ()
    for (group, member), own in groups:
        if traits := ARCHITECTURES.get(str(group), {}).get(str(member)):
            row = {"group": group, "member": member, RECORDS: tuple(own["key"])}
            rows.append(row | dict(zip(TRAITS, traits, strict=True)))
    columns = {"group": Column("Group"), "member": Column("Member")}
    columns |= {name: Column(header) for name, header in TRAITS.items()}
    frame = pd.DataFrame(rows)
    title = "Differences in architecture"
    return [Table("architectures", title, DIFFERENCES, frame, columns)] if rows else []


def samples(row: Mapping[Any, Any], call: str) -> np.ndarray | None:
    """The raw seconds of a call; None if it was not timed."""
    values = row.get(f"{call}_seconds.values")
    done = row["status"] == "done" and isinstance(values, list | np.ndarray)
    return np.asarray(values) if done else None


def half(row: Mapping[Any, Any], call: str) -> tuple[float, float] | None:
    """The quartiles of a call's seconds; None if it was not timed, or is not to be quoted."""
    values = samples(row, call)
    if values is None or pd.isna(row.get(f"{call}_seconds")):
        return None
    low, high = np.quantile(values, [0.25, 0.75])
    return float(low), float(high)


def time_column(header: str, interval: str) -> Column:
    """A column of milliseconds with an interval."""
    return Column(header, "ms", SCALES["s", "ms"], digits=".3g", interval=interval, kind="time")


def libraries(frame: pd.DataFrame) -> Iterator[Table]:
    """A row for each group, dimension and member."""
    columns = {"group": Column("Group"), "dim": Column("D"), "member": Column("Member")}
    columns |= {name: Column.of(name, digits=digits) for name, digits in KNOWN.items()}
    for call, name in CALLS.items():
        ratio = {"digits": ".3g", "interval": f"{call}.ratio.interval", "kind": "time"}
        columns[call] = time_column(name, f"{call}.half")
        columns[f"{call}.ratio"] = Column(f"{name}, ratio", **ratio)
    for call in COMPILED:
        seconds = Column.of(f"{call}_compile_seconds", digits=".2g")
        columns[f"{call}_compile_seconds"] = seconds
        columns[f"{call}.compiling"] = Column(f"{seconds.label}, calls", digits=",.0f", kind="time")
    rows = selected(costs(frame).dropna(axis="columns", how="all"), columns)
    yield Table("libraries", "One architecture by library", LIBRARIES, rows, columns)


def costs(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each group, dimension and member, the reference of a group first.

    Columns: group, dim, member; of each call its median seconds under its name, their middle half
    (``log_prob.half``), and but for the reference their ratio to its (``log_prob.ratio``, with
    ``.interval``); metrics of `KNOWN`; records. A member that was not measured has its status in
    place of its seconds.
    """
    frame = name_runs(frame, "setting.group")
    frame = frame.assign(order=pd.factorize(frame["setting.group"])[0])
    rows = []
    for (_, dim), group in frame.groupby(["order", "dim"]):
        first, *_ = members = group.sort_values("setting.place").to_dict("records")
        rows += [_cost(member, first) | {"dim": dim} for member in members]
    return pd.DataFrame(rows)


def _cost(member: Mapping[Any, Any], first: Mapping[Any, Any]) -> dict[str, Any]:
    """The row of a member; its seconds are compared in units of the reference workload beside."""
    row = {"group": member["setting.group"], "member": member["setting.member"]}
    row |= {name: member.get(name, np.nan) for name in KNOWN} | {RECORDS: (member["key"],)}
    if isinstance(member.get("setting.by"), str):
        row["log_prob_flops"] = "not counted"
    for call in CALLS:
        done = member["status"] == "done"
        row[call] = member.get(f"{call}_seconds", np.nan) if done else member["status"]
        row[f"{call}.half"] = half(member, call)
        own, reference = samples(member, call), samples(first, call)
        if member is not first and own is not None and reference is not None:
            units = [np.median(one["reference_seconds.values"]) for one in (member, first)]
            value, *interval = ratio_of_medians(own / units[0], reference / units[1])
            row |= {f"{call}.ratio": value, f"{call}.ratio.interval": tuple(interval)}
        if call in COMPILED:
            seconds = f"{call}_compile_seconds"
            row[seconds] = member.get(seconds, np.nan)
            if own is not None and isinstance(once := member.get(f"{seconds}.values"), list):
                row[f"{call}.compiling"] = float(np.median(once) / np.median(own))
    return row


def likelihoods(frame: pd.DataFrame) -> Iterator[Table]:
    """For each data set a table with a row a member."""
    columns = {
        "group": Column("Group"),
        "member": Column("Member"),
        "parameters": Column.of("parameters", digits=",.0f"),
        "update_rate": Column.of("update_rate", digits=".3g"),
        "step_compile_seconds": Column.of("step_compile_seconds", digits=".2g"),
    }
    for stage, words in STAGES.items():
        error, interval = f"{stage}.half", f"{stage}.difference.interval"
        columns[f"{stage}.updates"] = Column(f"Updates, {words}", digits=",.0f")
        columns[f"{stage}.test_ll"] = Column(f"At {words}", "nats", digits=".3f", error=error)
        header = f"Difference, {words}"
        columns[f"{stage}.difference"] = Column(header, "nats", digits="+.3f", interval=interval)
        columns[f"{stage}.stands"] = Column(f"Stands, {words}")
    for name, rows in scores(frame).groupby("dataset", sort=False):
        table = selected(rows.dropna(axis="columns", how="all"), columns)
        title = f"{name}: likelihood by library"
        yield Table(f"library_likelihoods-{name}", title, LIKELIHOODS, table, columns)


def scores(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each data set, group and member, the reference of a group first.

    Columns: dataset, group, member, parameters, update_rate, step_compile_seconds; of each stage,
    under its name, ``updates``, ``test_ll`` with ``half``, and but for the reference ``difference``
    with ``.interval``, and ``stands``, of `STANDS`; records. A member without a likelihood has the
    status of its first training in place of it.
    """
    known = ("parameters", "update_rate", "step_compile_seconds")
    parts = ("updates", "test_ll", "half", "difference", "difference.interval", "stands")
    names = ["dataset", "group", "member", *known, *(f"{s}.{p}" for s in STAGES for p in parts)]
    rows = []
    frame = name_runs(frame, "setting.group")
    for (dataset, group), own in frame.groupby(["dataset", "setting.group"], sort=False):
        own = own.sort_values("setting.place", kind="stable")
        members = dict(list(own.groupby("setting.member", sort=False)))
        stages = {s: _stage(own[own["setting.stage"] == s], list(members)) for s in STAGES}
        for member, records in members.items():
            row = {"dataset": dataset, "group": group, "member": member}
            row |= {name: records[name].median() for name in known if name in records}
            row[RECORDS] = tuple(records["key"])
            for stage, columns in stages.items():
                row |= {f"{stage}.{name}": value for name, value in columns[member].items()}
            rows.append(row)
    return pd.DataFrame(rows, columns=[*names, RECORDS])


def _stage(frame: pd.DataFrame, members: list[Any]) -> dict[Any, dict[str, Any]]:
    """Columns of each member by its trainings of one stage, the reference first."""
    trained = {member: frame[frame["setting.member"] == member] for member in members}
    done = {member: rows[rows["status"] == "done"] for member, rows in trained.items()}
    first, *others = members
    others = [m for m in others if len(done[m]) and len(done[first])]
    compared = {member: paired.compare(done[member], done[first]) for member in others}
    standings = paired.standing(compared)
    columns: dict[Any, dict[str, Any]] = {}
    for member, rows in done.items():
        if rows.empty:
            columns[member] = {"test_ll": next(iter(trained[member]["status"]), np.nan)}
            continue
        values = rows["test_ll"].to_numpy(dtype=float)
        error = paired.over_seeds(rows, values).half(LEVEL) if len(rows) > 1 else np.nan
        column = {"updates": rows["updates"].median(), "test_ll": values.mean(), "half": error}
        if member in compared:
            value, size = compared[member].estimate.value, compared[member].half
            column |= {"difference": value, "difference.interval": (value - size, value + size)}
            column["stands"] = STANDS[standings[member]]
        columns[member] = column
    return columns


def speed(frame: pd.DataFrame) -> Iterator[Table]:
    """Times of every competitor, and the ratios of ours to peers."""
    frame = named(frame)
    yield _times(frame)
    if len(rows := ratios(frame)):
        headers = {"flow": "Flow", "dim": "D", "busy": "Busy", "call": "Call", "ours": "Ours"}
        columns = {name: Column(header) for name, header in (headers | {"peer": "Peer"}).items()}
        ratio = {"digits": ".3g", "interval": "ratio.interval", "kind": "time"}
        columns |= {
            "ratio": Column("Ours / peer", **ratio),
            "error": Column("Error, ours", digits=".1e"),
            "error.peer": Column("Error, peer", digits=".1e"),
            "accuracy": Column("Accuracy"),
        }
        rows = rows.assign(call=rows["call"].map(lambda call: METRICS[f"{call}_seconds"].name))
        yield Table("speed-ratios", "Ours over peers", RATIOS, selected(rows, columns), columns)


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a column "competitor": its label, or what it is, and its run among several."""
    names = frame.get("setting.label", pd.Series(None, frame.index, dtype=object))
    frame = frame.assign(competitor=names.fillna(frame["setting.by"]))
    return name_runs(frame, "competitor")


def shares(frame: pd.DataFrame, call: str) -> pd.Series:
    """Share of the measured peak that each row's call reaches; NaN where it is not known.

    Its FLOPs are those of the eager flow of the same subject: a peer does the same work.
    """
    nothing = pd.Series(float("nan"), frame.index)
    flops, seconds = frame.get(FLOPS.get(call, ""), nothing), frame.get(f"{call}_seconds", nothing)
    counted = flops.where(frame["setting.by"] == "eager")
    subjects = [frame[name] for name in _subject(frame)]
    counted = counted.groupby(subjects, dropna=False).transform("max")
    return counted / seconds / (MATMUL_FLOPS / frame.get("matmul_seconds", nothing))


def ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each subject, call, competitor of ours and peer that were timed together.

    One of ours that has a label, which says how it differs, is a peer. Columns: those of a subject,
    call, ours, peer, ratio with ratio.interval, error and error.peer (of the gradient where the
    call gives one, of log_prob otherwise), accuracy ("equal", or whose is better), records.
    """
    done, listed = frame[frame["status"] == "done"], []
    for _, group in done.groupby([*_subject(done), "block"], sort=False, dropna=False):
        own = group["setting.by"].isin(MODES)
        own &= group.get("setting.label", pd.Series(None, group.index)).isna()
        sides = (group[side].to_dict("records") for side in (own, ~own))
        for call, one, other in product(SPEED_CALLS, *sides):
            mine, theirs = samples(one, call), samples(other, call)
            if mine is None or theirs is None:
                continue
            value, *interval = ratio_of_medians(mine, theirs)
            metric = f"{call}_error" if call != "sample" else "log_prob_error"
            ours, peer = one[metric], other[metric]
            equal = max(ours, peer) <= max(FLOOR, EQUAL * min(ours, peer))
            row = {name.rpartition(".")[2]: one[name] for name in _subject(done)}
            row |= {"call": call, "ours": one["competitor"], "peer": other["competitor"]}
            row |= {"ratio": value, "ratio.interval": tuple(interval)}
            row |= {"error": ours, "error.peer": peer}
            row["accuracy"] = "equal" if equal else f"{'ours' if ours < peer else 'peer'} better"
            listed.append(row | {RECORDS: (one["key"], other["key"])})
    return pd.DataFrame(listed)


def _times(frame: pd.DataFrame) -> Table:
    """A row for each competitor of a subject."""
    rows = frame.rename(columns=lambda name: str(name).removeprefix("option."))
    rows = rows.rename(columns={"setting.busy": "busy"})
    rows[RECORDS] = [(key,) for key in frame["key"]]
    names = [name.rpartition(".")[2] for name in _subject(frame)]
    headers = {"flow": "Flow", "dim": "D", "batch": "N", "hidden": "H", "busy": "Busy"}
    columns = {name: Column(headers[name]) for name in names} | {"competitor": Column("By")}
    for call in (call for call in SPEED_CALLS if f"{call}_seconds" in frame):
        name, header = f"{call}_seconds", METRICS[f"{call}_seconds"].name
        rows[name] = cells(frame, name)
        halves = [half(row, call) for row in frame.to_dict("records")]
        rows[f"{name}.half"] = pd.Series(halves, frame.index, dtype=object)
        columns[name] = time_column(header, f"{name}.half")
        if call in FLOPS:
            rows[f"{call}_peak"] = shares(frame, call)
            peak = Column(f"Peak, {header}", "%", 100.0, digits=".0f", kind="time")
            columns[f"{call}_peak"] = peak
    digits = {"log_prob_error": ".1e", "gradient_error": ".1e", "adjoint_error": ".1e"}
    digits |= {"parameters": ",.0f", "log_prob_nfe": ".0f"}
    digits |= {f"{call}_compile_seconds": ".1f" for call in SPEED_CALLS}
    columns |= {name: Column.of(name, digits=digits[name]) for name in digits if name in frame}
    return Table("speed", "Times by competitor", SPEED, selected(rows, columns), columns)


def _subject(frame: pd.DataFrame) -> list[str]:
    """Columns that tell subjects apart; "setting.busy" only where a machine was busy."""
    idle = {"setting.busy"} if not frame.get("setting.busy", pd.Series([0])).any() else set()
    return [name for name in SUBJECT if name in frame and name not in idle]

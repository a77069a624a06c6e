"""Tables of the peers: what tells architectures apart, times and errors, likelihoods, ratios."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from benchmarks.analysis import paired
from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.inference import ratio_of_medians
from benchmarks.core.exhibit import RECORDS, Column, Table, columns, with_interval
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
PRODUCTS = "products"  # their matrix products alone
CallName = Literal["log_prob", "gradient", "adjoint", "sample"]
SPEED_CALLS: tuple[CallName, ...] = get_args(CallName)
CALLS = {call: METRICS[f"{call}_seconds"].name for call in ("log_prob", "step", "sample", "build")}
KNOWN = ("parameters", "log_prob_error", "log_prob_flops", "log_prob_nfe")
COMPILED = ("log_prob", "step", "sample")  # calls that a peer compiles
STAGES = {"updates": "equal updates", "seconds": "equal seconds"}  # what is equal in a group
STANDS = {"ahead": "ahead", "level": "level", "behind": "behind", "open": "not told apart"}
RESIDENT = ("log_prob_resident_bytes", "gradient_resident_bytes")
EQUAL = 2.0  # factor between two errors up to which they count as equal
FLOOR = 1e-5  # below which errors, nats or of a gradient, are those of rounding: equal
SUBJECT = {"flow": "flow", "dim": "dim", "batch": "batch"}  # its columns, by those of a frame
SUBJECT |= {"option.hidden": "hidden", "setting.busy": "busy"}
RATIO: dict[str, Any] = {"digits": ".3g", "kind": "time"}
MILLISECONDS: dict[str, Any] = {"unit": "ms", "scale": SCALES["s", "ms"], **RATIO}

DIFFERENCES = (
    "Members of a group have as many layers, hidden layers of their networks and, within 5%, "
    "trainable parameters; the rest is each library's own way. s: the scale of an affine map, u: "
    "what its network gives."
)
LIBRARIES = (
    "Medians of one call on the whole batch, timed in the same shuffled rounds, with the "
    "interquartile range in brackets. Ratio: over the first member's median, with a 95 % bootstrap "
    "interval; above 1 the first is faster. Compiling is in no other time; in calls it is the "
    "number of calls that take as long. Error: the largest of log_prob over the batch, to the same "
    "weights in float64; a ratio is a fair comparison only if both errors are about the same."
)
LIKELIHOODS = (
    f"Mean test log-likelihood in nats over seeds, ± half of its {1 - LEVEL:.0%} interval, after "
    "equal updates, and after as many updates as equal seconds have room for, without compiling, "
    "by the rate that was measured first. Difference: to the first member, paired by seed and "
    "split, with its interval in brackets. A member is ahead of the first, level, behind or not "
    f"told apart, tested together for its group at a level of {LEVEL:g} (Student's t, Holm)."
)
SPEED = (
    "Median of one call on the whole batch, timed in the same shuffled turns, with the "
    "interquartile range in brackets. Products: the matrix products of the eager flow's call, "
    "alone in a bare loop; another layout may be faster. Error: of log_prob the largest over the "
    "batch, of the gradient over its norm, to a float64 solution. Compile time is the first call "
    "minus the second; no other time includes it. Compiling pays from so many updates: their loss "
    "and backward save as many seconds as it takes. Busy: processes that kept a core each busy "
    "meanwhile. Resident: bytes by which the resident set's peak in the second run of a call "
    "exceeds the set before, in a fresh process that gives back blocks beyond 128 KiB as they are "
    "freed. Saved: most bytes that autograd holds for backward, without weights and masks."
)
RATIOS = (
    "Median time of ours over that of the other library's, with a 95 % bootstrap interval: below "
    "1 ours is faster. Accuracy: errors of log_prob (nats, the largest) and of gradients (over "
    f"their norm) are equal within a factor of {EQUAL:g}, or where both are below {FLOOR:g}, which "
    "is rounding; otherwise a ratio compares two accuracies. Resident: the same ratio of bytes."
)


def tables(frame: pd.DataFrame) -> list[Table]:
    """The tables of each part that has records; what tells the members of groups apart."""
    parts = dict(list(frame.groupby("setting.part", sort=False)))
    builders = {"libraries": libraries, "likelihoods": likelihoods, "speed": speed}
    result = [table for part in builders if part in parts for table in builders[part](parts[part])]
    return [*result, *differences(frame[frame["setting.part"] != "speed"])]


def differences(frame: pd.DataFrame) -> list[Table]:
    """The table of what tells the members of records apart, where something is known."""
    rows = []
    groups = frame.groupby(["setting.group", "setting.member"], sort=False) if len(frame) else ()
    for (group, member), cases in groups:
        if traits := ARCHITECTURES.get(str(group), {}).get(str(member)):
            row = {"group": group, "member": member, RECORDS: tuple(cases["key"])}
            rows.append(row | dict(zip(TRAITS, traits, strict=True)))
    title, layout = "Differences in architecture", columns("group", "member", TRAITS)
    return [Table("architectures", title, DIFFERENCES, pd.DataFrame(rows), layout)] if rows else []


# ---- times --------------------------------------------------------------------------------------


def samples(row: Mapping[Any, Any], call: str) -> np.ndarray | None:
    """The raw seconds of a call; None if it was not timed."""
    values = row.get(f"{call}_seconds.values")
    timed = row["status"] == "done" and isinstance(values, list | np.ndarray)
    return np.asarray(values) if timed else None


def time_cells(row: Mapping[Any, Any], call: str, name: str) -> dict[str, Any]:
    """A call's median seconds, or the status in place of them, and their quartiles."""
    seconds, raw = row.get(f"{call}_seconds", np.nan), samples(row, call)
    quartiles = None
    if raw is not None and not pd.isna(seconds):  # some are not to be quoted
        quartiles = tuple(map(float, np.quantile(raw, [0.25, 0.75])))
    return {
        name: seconds if row["status"] == "done" else row["status"],
        f"{name}.interval": quartiles,
    }


def libraries(frame: pd.DataFrame) -> Iterator[Table]:
    """A row for each group, dimension and member."""
    layout = columns("group", "dim", "member", *KNOWN)
    for call, name in CALLS.items():
        layout[call] = Column(name, **MILLISECONDS)
        layout[f"{call}.ratio"] = Column(f"{name}, ratio", **RATIO)
    for call in COMPILED:
        seconds = Column.of(f"{call}_compile_seconds", digits=".2g")
        layout[f"{call}_compile_seconds"] = seconds
        layout[f"{call}.compiling"] = Column(f"{seconds.label}, calls", digits=",.0f", kind="time")
    rows = costs(frame).dropna(axis="columns", how="all")
    yield Table.of("libraries", "One architecture by library", LIBRARIES, rows, layout)


def costs(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each group, dimension and member, the reference of a group first.

    Columns: group, dim, member; of each call its median seconds under its name, their middle half
    (``log_prob.interval``), and but for the reference their ratio to its (``log_prob.ratio``, with
    ``.interval``); metrics of `KNOWN`; records. A member that was not measured has its status in
    place of its seconds.
    """
    frame = name_runs(frame, "setting.group")
    frame = frame.assign(order=pd.factorize(frame["setting.group"])[0])
    rows = []
    for _, group in frame.groupby(["order", "dim"]):
        first, *_ = members = group.sort_values("setting.place").to_dict("records")
        rows += [_cost(member, first) for member in members]
    return pd.DataFrame(rows)


def _cost(member: Mapping[Any, Any], first: Mapping[Any, Any]) -> dict[str, Any]:
    """The row of a member; its seconds are compared in units of the reference workload beside."""
    row = {"group": member["setting.group"], "member": member["setting.member"]}
    row |= {name: member.get(name, np.nan) for name in ("dim", *KNOWN)}
    row[RECORDS] = (member["key"],)
    if isinstance(member.get("setting.by"), str):
        row["log_prob_flops"] = "not counted"
    for call in CALLS:
        row |= time_cells(member, call, call)
        raw, reference = samples(member, call), samples(first, call)
        if member is not first and raw is not None and reference is not None:
            units = [np.median(one["reference_seconds.values"]) for one in (member, first)]
            ratio = ratio_of_medians(raw / units[0], reference / units[1])
            row |= with_interval(f"{call}.ratio", *ratio)
        if call in COMPILED:
            seconds = f"{call}_compile_seconds"
            row[seconds] = member.get(seconds, np.nan)
            if raw is not None and isinstance(once := member.get(f"{seconds}.values"), list):
                row[f"{call}.compiling"] = float(np.median(once) / np.median(raw))
    return row


# ---- likelihoods --------------------------------------------------------------------------------


def likelihoods(frame: pd.DataFrame) -> Iterator[Table]:
    """For each data set a table with a row a member."""
    layout = columns("group", "member", "parameters", "update_rate")
    layout["step_compile_seconds"] = Column.of("step_compile_seconds", digits=".2g")
    for stage, words in STAGES.items():
        layout[f"{stage}.updates"] = Column(f"Updates, {words}", digits=",.0f")
        error = f"{stage}.half"
        layout[f"{stage}.test_ll"] = Column(f"At {words}", "nats", digits=".3f", error=error)
        layout[f"{stage}.difference"] = Column(f"Difference, {words}", "nats", digits="+.3f")
        layout[f"{stage}.stands"] = Column(f"Stands, {words}")
    for name, rows in scores(frame).groupby("dataset", sort=False):
        rows, title = rows.dropna(axis="columns", how="all"), f"{name}: likelihood by library"
        yield Table.of(f"library_likelihoods-{name}", title, LIKELIHOODS, rows, layout)


def scores(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each data set, group and member, the reference of a group first.

    Columns: dataset, group, member, parameters, update_rate, step_compile_seconds; of each stage,
    under its name, ``updates``, ``test_ll`` with ``half``, and but for the reference ``difference``
    with ``.interval``, and ``stands``, of `STANDS`; records. A member without a likelihood has the
    status of its first training in place of it.
    """
    medians = ("parameters", "update_rate", "step_compile_seconds")
    rows = []
    frame = name_runs(frame, "setting.group")
    for (dataset, group), cases in frame.groupby(["dataset", "setting.group"], sort=False):
        cases = cases.sort_values("setting.place", kind="stable")
        members = dict(list(cases.groupby("setting.member", sort=False)))
        stages = {stage: _stage(stage, members) for stage in STAGES}
        for member, records in members.items():
            row = {"dataset": dataset, "group": group, "member": member}
            row |= {name: records[name].median() for name in medians if name in records}
            row |= stages["updates"][member] | stages["seconds"][member]
            rows.append(row | {RECORDS: tuple(records["key"])})
    return pd.DataFrame(rows)


def _stage(stage: str, members: Mapping[Any, pd.DataFrame]) -> dict[Any, dict[str, Any]]:
    """The cells of each member by its trainings of one stage, the reference first."""
    trained = {member: rows[rows["setting.stage"] == stage] for member, rows in members.items()}
    done = {member: rows[rows["status"] == "done"] for member, rows in trained.items()}
    (_, first), *others = done.items()
    others = [(name, rows) for name, rows in others if len(rows) and len(first)]
    compared = {name: paired.compare(rows, first) for name, rows in others}
    standings = paired.standing(compared)
    cells_of: dict[Any, dict[str, Any]] = {}
    for member, rows in done.items():
        row: dict[str, Any] = {"test_ll": next(iter(trained[member]["status"]), np.nan)}
        row |= {"difference": np.nan, "difference.interval": None}
        if len(rows):
            row |= {"updates": rows["updates"].median(), "test_ll": rows["test_ll"].mean()}
            row["half"] = paired.over_seeds(rows, rows["test_ll"].to_numpy(float)).half(LEVEL)
        if member in compared:
            estimate = compared[member].estimate
            row |= {"difference": estimate.value, "stands": STANDS[standings[member]]}
            row["difference.interval"] = estimate.interval(LEVEL)
        cells_of[member] = {f"{stage}.{name}": value for name, value in row.items()}
    return cells_of


# ---- speed --------------------------------------------------------------------------------------


def speed(frame: pd.DataFrame) -> Iterator[Table]:
    """Times of every competitor, and the ratios of ours to peers."""
    frame = named(frame)
    yield _times(frame)
    if len(rows := ratios(frame)):
        layout = columns("flow", "dim", "batch", "busy", "ours", "peer")
        names = [f"{call}_seconds" for call in SPEED_CALLS] + [*RESIDENT]
        headers = {name: METRICS[name].name for name in names if name in rows}
        layout |= {name: Column(header, **RATIO) for name, header in headers.items()}
        layout |= columns("accuracy")
        yield Table.of("speed-ratios", "Ours over peers", RATIOS, rows, layout)


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a column "competitor": its label, or what it is, and its run among several."""
    names = frame.get("setting.label", pd.Series(None, frame.index, dtype=object))
    frame = frame.assign(competitor=names.fillna(frame["setting.by"]))
    return name_runs(frame, "competitor")


def ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each subject, competitor of ours and peer that were timed together.

    One of ours that has a label, which says how it differs, is a peer. Columns: those of a subject,
    ours, peer, ratios of seconds, with intervals, and of resident bytes under their metrics,
    accuracy ("equal", or whose is better for which call), records.
    """
    done, rows = frame[frame["status"] == "done"], []
    for _, group in done.groupby([*_subject(done), "block"], sort=False, dropna=False):
        mask = group["setting.by"].isin(MODES)
        mask &= group.get("setting.label", pd.Series(None, group.index)).isna()
        for one, other in product(*(group[side].to_dict("records") for side in (mask, ~mask))):
            compared: dict[str, Any] = {}
            better = []
            for call in SPEED_CALLS:
                seconds = f"{call}_seconds"
                mine, theirs = samples(one, call), samples(other, call)
                if mine is None or theirs is None:
                    continue
                compared |= with_interval(seconds, *ratio_of_medians(mine, theirs))
                error = f"{call}_error" if call != "sample" else "log_prob_error"
                least, most = sorted([one[error], other[error]])
                if most > max(FLOOR, EQUAL * least):
                    whose = "ours" if one[error] == least else "peer"
                    better.append(f"{METRICS[seconds].name}: {whose} better")
            if compared:
                row = {SUBJECT[name]: one[name] for name in _subject(done)}
                row |= {"ours": one["competitor"], "peer": other["competitor"], **compared}
                row |= {m: one[m] / other[m] for m in RESIDENT if not pd.isna(one.get(m))}
                row["accuracy"] = ", ".join(better) or "equal"
                rows.append(row | {RECORDS: (one["key"], other["key"])})
    return pd.DataFrame(rows)


def _times(frame: pd.DataFrame) -> Table:
    rows = frame.rename(columns=SUBJECT)
    layout = columns(*(SUBJECT[name] for name in _subject(frame)), {"competitor": "By"})
    for call in (call for call in SPEED_CALLS if f"{call}_seconds" in frame):
        name, header = f"{call}_seconds", METRICS[f"{call}_seconds"].name
        times = [time_cells(row, call, name) for row in frame.to_dict("records")]
        rows = rows.assign(**pd.DataFrame(times, rows.index, dtype=object))
        layout[name] = Column(header, **MILLISECONDS)
    layout |= columns("log_prob_error", "gradient_error", "adjoint_error", "parameters")
    layout |= columns("log_prob_nfe", *(f"{call}_compile_seconds" for call in SPEED_CALLS))
    rows["pays"] = _paying(frame)
    if rows["pays"].notna().any():
        layout["pays"] = Column("Compiling pays from", "updates", digits=",.0f", kind="time")
    if frame.get("setting.memory", pd.Series([None])).eq(True).any():
        known = rows["setting.memory"].eq(True)
        known &= rows["setting.by"] != "compiled"  # whose saved bytes are those of the eager flow
        rows["step_saved_bytes"] = rows["step_saved_bytes"].where(known)
        layout |= {name: Column.of(name, row=False) for name in (*RESIDENT, "step_saved_bytes")}
    return Table.of("speed", "Times by competitor", SPEED, rows, layout)


def _paying(frame: pd.DataFrame) -> pd.Series:
    """Updates from which compiling pays, where it was without a cache; NaN where it never does."""
    cold = frame["notes"].map(lambda notes: bool(notes.get("compiled_without_cache")))
    if not cold.any() or "gradient_seconds" not in frame:  # as times of noisy blocks
        return pd.Series(np.nan, frame.index)
    eager = frame["gradient_seconds"].where(frame["competitor"] == "eager")
    groups = eager.groupby([frame[name] for name in _subject(frame)], dropna=False)
    saved = groups.transform("first") - frame["gradient_seconds"]
    return (frame["gradient_compile_seconds"] / saved).where(cold & (saved > 0))


def _subject(frame: pd.DataFrame) -> list[str]:
    """Columns that tell subjects apart; "setting.busy" only where a machine was busy."""
    names = [name for name in SUBJECT if name in frame]
    return names if frame["setting.busy"].any() else names[:-1]

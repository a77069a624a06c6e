"""Sentences of docs/results.md and the README: written by a person, and held to the records.

A sentence has at most three numbers, each with its interval, which are computed from the committed
runs. It also says when it holds: where that changes it is to be written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import pandas as pd

from benchmarks.analysis import growth, inference, nfe, paired, sizes
from benchmarks.analysis.contests import kinds, validations
from benchmarks.analysis.criteria import LEVEL
from benchmarks.core.exhibit import scientific
from benchmarks.core.formats import number
from benchmarks.studies.search.tables import best_of, by_budget, closed, finals, labelled

if TYPE_CHECKING:
    from pages import Documents

Numbers = tuple[dict[str, str], bool]  # of a sentence, and whether it holds


@dataclass(frozen=True)
class Sentence:
    """A text with named numbers, and a function that computes them from the runs."""

    text: str
    numbers: Callable[[Documents], Numbers]

    def of(self, documents: Documents) -> str:
        """The text with its numbers; ValueError where it no longer holds."""
        numbers, holds = self.numbers(documents)
        text = self.text.format(**numbers)
        if not holds:
            raise ValueError(f"the records no longer say {text!r}: write it anew in {__name__}")
        return text


sentences: dict[str, Sentence] = {}


DECIDING = {  # undecided claims by name, and what would decide them
    "mode-collapse": (
        "*Trainings that resolve the modes would*: ten times the updates, of five flows with five "
        "seeds, are seven hours of one core."
    ),
    "data-glow-ffjord": (
        "*Thirty draws of checkerboard may*: of two flows, 60 s each, they are an hour of one core."
    ),
    "continuous-faster-training": (
        "*More draws would*: on digits the quickest flow is continuous, on the other sets "
        "discrete, and after the correction for the tests five splits leave four sets open. Ten "
        "draws of two flows, 60 s each, are 20 minutes of one core a set."
    ),
    "ffjord-fastest": (
        "*More splits would*: on each of six sets its training takes longer than a CNF's, and "
        "after the correction for all calls and sets five splits leave that open. Ten splits of "
        "two flows are 20 minutes of one core for a set at 60 s, and 100 at 300 s."
    ),
    "continuous-faster-density": (
        "*Calls timed on a quiet machine on five splits would*: two flows, four data sets and 60 s "
        "each are 40 minutes of one core."
    ),
    "continuous-faster-sampling": "*The same calls would.*",
    "continuous-powerful": (
        "*Large tables in disjoint draws would*: the correction for overlapping splits has a "
        "floor, however many there are. Three tables, two flows, five draws and 60 s each are half "
        "an hour of one core, without the search."
    ),
}


def sentence(text: str) -> Callable[[Callable[[Documents], Numbers]], Callable[..., Numbers]]:
    """Decorator: a sentence by the name of the function that computes its numbers."""

    def decorate(numbers: Callable[[Documents], Numbers]) -> Callable[[Documents], Numbers]:
        sentences[numbers.__name__] = Sentence(text, numbers)
        return numbers

    return decorate


def written(estimate: inference.Estimate, digits: str = ".1f", scale: float = 1.0) -> str:
    """ "37.6 ± 5.0": an estimate with half of its interval."""
    half = scale * estimate.half(LEVEL)
    return f"{number(scale * estimate.value, digits)} ± {number(half, digits)}"


def interval(estimate: inference.Estimate | inference.Trend, digits: str = ".2f") -> str:
    """ "0.38 [0.22, 0.80]"."""
    low, high = (number(end, digits) for end in estimate.interval(LEVEL))
    return f"{number(estimate.value, digits)} [{low}, {high}]"


def scores(documents: Documents, run: str, data: str, seconds: float) -> dict[str, pd.DataFrame]:
    """The finals within a budget of a search and the baselines, by model, a row a split."""
    scored = by_budget(finals(searched(documents, run)[data]))[seconds]
    return {str(name): seeds for name, seeds in scored.groupby("model")}


@cache
def searched(documents: Documents, run: str) -> dict[str, pd.DataFrame]:
    """The labelled cases of a search, by data set."""
    frame = documents.runs[run].frame
    rows = frame[frame["study"] == "search"]
    return {str(name): labelled(group) for name, group in rows.groupby("dataset", sort=False)}


@sentence(
    "**Evaluations eat what a stochastic trace saves.** With the four evaluations of one "
    "Runge-Kutta step a density by FFJORD takes fewer FLOPs than one by Glow from D = {step} on. "
    "With as many as its trained fields take, it does so from D = {mixture} on for mixtures of "
    "Gaussians and, for image patches, where they grow, from {patches} on at the earliest (in "
    "brackets: with the fewest and the most evaluations). RealNVP takes fewer at every D counted."
)
def evaluations(documents: Documents) -> Numbers:
    solved, direct = nfe.totals(documents.runs["evaluations"].frame)
    others = {total.name: total for total in direct}
    fields = {total.data: total for total in solved if total.name == "ffjord"}
    below = {data: field.crossings(others["glow linear=lu"]) for data, field in fields.items()}
    never = all(min(f.crossings(others["realnvp"])) == growth.NEVER for f in fields.values())
    texts = {data: [number(dim, ",.0f") for dim in dims] for data, dims in below.items()}
    numbers = {data: "{1} [{0}, {2}]".format(*texts[data]) for data in ("mixture", "patches")}
    numbers["step"] = texts[""][1]
    later = below["mixture"][1] > 5 * below[""][1]
    return numbers, never and later and fields[""].evaluations[1] == 4


@sentence(
    "**Evaluations follow the structure of the data.** Once they fit equally well, evaluations of "
    "CNF, FFJORD and RNODE hardly grow from 2 to {dims} dimensions of mixtures of fixed structure, "
    "as D to the power {mixture}. On natural image patches they grow as D to the power {patches}."
)
def complexity(documents: Documents) -> Numbers:
    fits = nfe.pooled(nfe.fits(documents.runs["evaluations"].frame))
    free = {nfe.parts_of(fit.name)[1]: fit for fit in fits if "cnf" in fit.name}
    slopes = {data: fit.growth() for data, fit in free.items()}
    fixed, grows = slopes["mixture"], slopes["patches"]
    dims = free["mixture"].rows.dropna()["dim"]  # at which the fit was reached
    level = max(map(abs, fixed.interval(2 * LEVEL))) < 0.1
    numbers = {name: interval(slope) for name, slope in slopes.items()}
    numbers["dims"] = str(dims.max())
    return numbers, level and grows.interval(LEVEL)[0] > 0 and dims.min() == 2


@sentence(
    "**For a flow with an ODE, preprocessing outweighs the family.** On image patches the radial "
    "map, which makes the norm of a row that of Gaussian noise, is worth {gain} nats to a CNF "
    "after 15 CPU seconds, on three splits. With it a CNF that was found by hand is {ahead} ahead "
    "of Glow after 300, on the same; after a search with equal effort Glow is {searched} ahead, on "
    "five."
)
def preprocessing(documents: Documents) -> Numbers:
    early, late = (scores(documents, "ladder", "patches", seconds) for seconds in (15.0, 300.0))
    found = scores(documents, "frontier", "patches", 300.0)
    best = [_best(models, "continuous") for models in (late, found)]
    leads = {
        "gain": paired.compare(early["cnf radial"], early["cnf whiten"]),
        "ahead": paired.compare(best[0], late["glow radial"]),
        "searched": paired.compare(_best(found, "flows"), best[1]),
    }
    ends = [lead.estimate.interval(LEVEL) for lead in leads.values()]
    holds = all((cases["flow"] == "cnf").all() for cases in best)
    holds = holds and [lead.seeds for lead in leads.values()] == [3, 3, 5]
    holds = holds and min(low for low, _ in ends) > 0 and ends[0][0] > 5 * ends[2][1]
    holds = holds and set(_best(found, "flows")["model"]) == {"glow"}
    digits = {"gain": ".1f", "ahead": ".2f", "searched": ".2f"}
    return {n: written(lead.estimate, digits[n]) for n, lead in leads.items()}, holds


def _best(models: dict[str, pd.DataFrame], kind: str) -> pd.DataFrame:
    """The model that is best by validation, of those of a kind, or of all "flows"."""
    kinds_of = {name: str(kinds(cases).iloc[0]) for name, cases in models.items()}
    chosen = [
        cases
        for name, cases in models.items()
        if kinds_of[name] == kind or (kind == "flows" and kinds_of[name] != "baseline")
    ]
    return max(chosen, key=lambda cases: float(validations(cases).mean()))


@sentence(
    "After 60 CPU seconds nsf_ar closes {leader} of the gap between a Gaussian and the best model "
    "of a real table, a mixture of Gaussians {mixture}, and a CNF, the best flow with an ODE, "
    "{cnf}."
)
def families(documents: Documents) -> Numbers:
    sets = searched(documents, "tables")
    rows = closed(sets, best_of(sets))[60.0].set_index("model")
    models = {"leader": "nsf_ar", "mixture": "mixture", "cnf": "cnf"}
    closes = {name: rows.loc[model, "share"] for name, model in models.items()}
    values = rows["share"].map(lambda share: share.value)
    solving = values[rows["test_nfe"].notna()]
    apart = closes["leader"].interval(LEVEL)[0] > closes["cnf"].interval(LEVEL)[1]
    numbers = {name: f"{written(share, '.1f', 100)} %" for name, share in closes.items()}
    return numbers, apart and (values.idxmax(), solving.idxmax()) == ("nsf_ar", "cnf")


@sentence(
    "After 60 CPU seconds nsf_ar is ahead of a mixture of Gaussians on magic, by {magic} nats, and "
    "not told apart from one on casp, at {casp}. On digits a mixture behind a logit is ahead of "
    "the best flow by validation, by {digits}. All are in five splits."
)
def searches(documents: Documents) -> Numbers:
    leads, flows = {}, []
    for data in ("magic", "casp", "digits"):
        models = scores(documents, "frontier", data, 60.0)
        sides = [_best(models, kind) for kind in ("flows", "baseline")]
        flows.append(sides[0]["model"].iloc[0])
        leads[data] = paired.compare(*(sides[::-1] if data == "digits" else sides)).estimate
    clear = [lead.interval(LEVEL)[0] > 0 for lead in leads.values()]
    numbers = {name: written(lead, ".2f") for name, lead in leads.items()}
    return numbers, clear == [True, False, True] and flows[:2] == ["nsf_ar", "nsf_ar"]


@sentence(
    "After 300 s transformer_mixture is the best flow on magic by validation: ahead of nsf_ar by "
    "{spline} nats, and of RNODE, the best with an ODE, by {ode}. On casp all but FFJORD overfit "
    "and end early, and nsf_ar stays ahead of the best with an ODE, a CNF, by {casp}."
)
def longer(documents: Documents) -> Numbers:
    magic, casp = (scores(documents, "frontier", data, 300.0) for data in ("magic", "casp"))
    sides = [_best(models, kind) for models in (magic, casp) for kind in ("flows", "continuous")]
    pairs = {"spline": (sides[0], magic["nsf_ar"]), "ode": sides[:2], "casp": sides[2:]}
    leads = {name: paired.compare(*pair).estimate for name, pair in pairs.items()}
    chosen = [str(cases["model"].iloc[0]) for cases in sides]
    holds = all(lead.interval(LEVEL)[0] > 0 for lead in leads.values())
    holds = holds and chosen == ["transformer_mixture", "rnode", "nsf_ar", "cnf"]
    rows = searched(documents, "frontier")["casp"].query("seconds == 300 and status == 'done'")
    holds = holds and ((rows["budget_spent"] < 0.99) == (rows["model"] != "ffjord")).all()
    return {name: written(lead, ".2f") for name, lead in leads.items()}, holds


@sentence(
    "On image patches, after 60 s in five splits, Glow, the best flow by validation, is ahead "
    "of the best with an ODE, a CNF, by {ode} nats. A mixture behind the radial map leads Glow by "
    "{flow}, which the correction for the tests of all claims leaves open, and after 300 s by "
    "{later}: not told apart."
)
def patches(documents: Documents) -> Numbers:
    leads, chosen = [], set()
    for seconds in (60.0, 300.0):
        models = scores(documents, "frontier", "patches", seconds)
        mixture, flow, ode = (_best(models, kind) for kind in ("baseline", "flows", "continuous"))
        leads += [paired.compare(mixture, flow).estimate, paired.compare(flow, ode).estimate]
        chosen.add(tuple(str(cases["model"].iloc[0]) for cases in (mixture, flow, ode)))
    clear = [lead.interval(LEVEL)[0] > 0 for lead in leads]
    holds = clear == [True, True, False, True]
    holds = holds and chosen == {("mixture after radial", "glow", "cnf")}
    names = {"flow": leads[0], "ode": leads[1], "later": leads[2]}
    return {name: written(lead, ".2f") for name, lead in names.items()}, holds


@sentence(
    "Of {sets} real tables the best flow by validation (120 CPU seconds of search a family) leads "
    "the best baseline on {ahead}, by Holm's correction on {sure}, and trails on none."
)
def tables(documents: Documents) -> Numbers:
    leads = []
    for data in searched(documents, "tables"):
        models = scores(documents, "tables", data, 60.0)
        leads.append(paired.compare(_best(models, "flows"), _best(models, "baseline")).estimate)
    corrected = inference.holm([lead.p for lead in leads])
    sure = sum(p < LEVEL and lead.value > 0 for p, lead in zip(corrected, leads, strict=True))
    counts = {"sets": len(leads), "ahead": ahead(leads), "sure": sure}
    holds = all(lead.interval(LEVEL)[1] >= 0 for lead in leads)
    return {name: str(count) for name, count in counts.items()}, holds


def ahead(leads: Iterable[inference.Estimate]) -> int:
    """How many leads have an interval above 0."""
    return sum(lead.interval(LEVEL)[0] > 0 for lead in leads)


@sentence(
    "Of four densities of the plane, in ten draws each, FFJORD is ahead of Glow on {glow} after 60 "
    "CPU seconds, and nsf_ar ahead of FFJORD on {spline}. On checkerboard FFJORD's lead over Glow "
    "is {checkers} nats, which the correction for the tests of all claims leaves open."
)
def plane(documents: Documents) -> Numbers:
    sets = {data: scores(documents, "plane", data, 60.0) for data in searched(documents, "plane")}
    glow = {n: paired.compare(own["ffjord"], own["glow"]).estimate for n, own in sets.items()}
    spline = [paired.compare(own["nsf_ar"], own["ffjord"]).estimate for own in sets.values()]
    checkers = glow["checkerboard"]
    numbers = {"glow": str(ahead(glow.values())), "spline": str(ahead(spline))}
    draws = [len(own["ffjord"]) for own in sets.values()]
    holds = draws == 4 * [10] and checkers.interval(LEVEL)[1] < 0
    return {**numbers, "checkers": interval(checkers, ".3f")}, holds


@sentence(
    "Counted exactly, log_prob grows as D to the power {dense} for a dense flow, {cnf} for a CNF "
    "whose trace is looped over columns and {ffjord} for FFJORD, both of a fixed width."
)
def degrees(documents: Documents) -> Numbers:
    rows = growth.degrees(sizes.scans(documents.runs["complexity"].frame), "log_prob_flops")
    rows = rows[(rows["width"] != growth.FOLLOWS) & (rows["depth"] != 3)]
    chosen = rows["flow"].isin(["dense", "ffjord"]) | (rows["trace"] == "loop")
    degree = rows[chosen].set_index("flow")["degree"].astype(int)
    names = ("dense", "cnf", "ffjord")
    return {name: str(degree[name]) for name in names}, [degree[n] for n in names] == [3, 2, 1]


@sentence(
    "On a turned grid of 25 Gaussians no flow that is trained by likelihood misses a mode, but "
    "RealNVP puts {realnvp} of its samples between them, and a CNF {cnf}. By annealed reverse KL "
    "{missed} of the 25 are missed."
)
def modes(documents: Documents) -> Numbers:
    frame = documents.runs["modes"].frame
    rows = frame[frame["status"] == "done"].groupby(["setting.objective", "flow"])
    gaps, missed = rows["gap_mass"].mean()["likelihood"], rows["modes_missed"].mean()
    lost = missed["annealed_kl"]
    numbers = {name: f"{number(100 * gaps[name], '.0f')} %" for name in ("realnvp", "cnf")}
    numbers["missed"] = f"{number(lost.min(), '.1f')} to {number(lost.max(), '.1f')}"
    return numbers, missed["likelihood"].max() == 0 and gaps.min() > 0.2 and lost.min() > 1


@sentence(
    "On slcp, whose density is far from Gaussian, nsf_ar is {slcp} nats ahead of a mixture; on "
    "the linear task a linear regression is {linear} nats ahead of it."
)
def conditional(documents: Documents) -> Numbers:
    rows = documents.runs["conditional"].frame
    leads = []
    sides = {"slcp": ("nsf_ar", "mixture"), "gaussian_linear": ("gaussian", "nsf_ar")}
    for data, (one, other) in sides.items():
        of = dict(list(rows[rows["dataset"] == data].groupby("flow")))
        leads.append(paired.compare(of[one], of[other]).estimate)
    numbers = {"slcp": written(leads[0], ".2f"), "linear": written(leads[1], ".2f")}
    return numbers, all(lead.interval(LEVEL)[0] > 0 for lead in leads)


@sentence(
    "The density of a trained field in one dimension integrates to one within {loose} at a "
    "tolerance of 0.1, and within {tight} at 1e-8."
)
def mass(documents: Documents) -> Numbers:
    table = documents.runs["ffjord"].exhibit("tables", "mass").frame
    errors = table[table["dtype"] == "float64"].set_index("setting")["mass_error"]
    numbers = {"loose": scientific(errors[0.1]), "tight": scientific(errors[1e-8])}
    return numbers, errors[0.1] < 0.01 and errors[1e-8] < 1e-7


@sentence(
    "The bottleneck trick lowers the loss of a training by {gaussian} nats with Gaussian noise and "
    "by {rademacher} with Rademacher's, with which the paper saw no gain; validation likelihoods "
    "do not differ."
)
def bottleneck(documents: Documents) -> Numbers:
    table = documents.runs["ffjord"].exhibit("tables", "trace-training").frame
    gains = table.dropna(subset=["less"]).set_index("noise")
    ends = {noise: gains.loc[noise, "less.interval"] for noise in gains.index}
    numbers = {
        noise: f"{number(gains.loc[noise, 'less'], '.2f')} [{low:.2f}, {high:.2f}]"
        for noise, (low, high) in ends.items()
    }
    level = table["val_ll"].max() - table["val_ll"].min() < table["val_ll_se"].min()
    return numbers, level and all(low > 0 for low, _ in ends.values())

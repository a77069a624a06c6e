"""The score over data sets: Demšar's example, its parts counted anew, tables and figures."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from benchmarks.analysis.ranking import Ranking, complete, mean_ranks
from benchmarks.core.naming import BUDGET
from benchmarks.studies.density import figures as density_figures
from benchmarks.studies.density import tables as density
from benchmarks.studies.search import figures as search_figures
from benchmarks.studies.search import tables as search
from claim_examples import densities, searched

STUDIES = {
    "density": (densities, density.tables, density_figures.figures),
    "frontier": (searched, search.tables, search_figures.figures),
}
# area under the curve of C4.5 with m and cf tuned or not, on 14 sets (Demšar 2006, table 6)
C45 = pd.DataFrame(
    {
        "C4.5": [763, 599, 954, 628, 882, 936, 661, 583, 775, 1000, 940, 619, 972, 957],
        "m": [768, 591, 971, 661, 888, 931, 668, 583, 838, 1000, 962, 666, 981, 978],
        "cf": [771, 590, 968, 654, 886, 916, 609, 563, 866, 1000, 965, 614, 975, 946],
        "m+cf": [798, 569, 967, 657, 898, 931, 685, 625, 875, 1000, 962, 669, 974.9, 970],
    }
).T


def ranked(likelihoods) -> Ranking:
    frame = pd.DataFrame(likelihoods)
    return Ranking(frame.loc[mean_ranks(frame).sort_values().index], frame, [])


def test_demsars_example_is_met() -> None:
    ranking = ranked(C45)
    assert ranking.ranks.round(3).to_dict() == {"m+cf": 1.964, "m": 2.0, "cf": 2.893, "C4.5": 3.143}
    assert [round(ranking.critical(level), 2) for level in (0.05, 0.1)] == [1.25, 1.12]
    chi = 12 * 14 / 20 * ((ranking.ranks**2).sum() - 25)  # as there, without a correction for ties
    assert [round(chi, 2), round(13 * chi / (42 - chi), 2)] == [9.28, 3.69]
    ties = 1 - (3 * (2**3 - 2) + 4**3 - 4) / (14 * (4**3 - 4))
    assert ranking.p == pytest.approx(stats.f.sf(13 * chi / (42 * ties - chi), 3, 39))
    assert ranking.alike == [(0, 3)]
    assert math.isnan(ranked(np.ones((4, 6))).p)  # all are tied


@settings(max_examples=40)
@given(arrays(float, st.tuples(st.integers(3, 7), st.integers(5, 12)), elements=st.integers(0, 30)))
def test_friedmans_test_is_an_analysis_of_variance_of_ranks(x: np.ndarray) -> None:
    ranking, ranks, (models, sets) = ranked(x), stats.rankdata(-x, axis=0), x.shape
    between = sets * ((ranks.mean(1) - ranks.mean()) ** 2).sum() / (models - 1)
    rest = ((ranks - ranks.mean(1)[:, None]) ** 2).sum() / ((models - 1) * (sets - 1))
    if np.ptp(ranks) and rest > 1e-12:
        expected = stats.f.sf(between / rest, models - 1, (models - 1) * (sets - 1))
        assert ranking.p == pytest.approx(expected, rel=1e-6)
    pairs, runs = {*itertools.combinations(range(models), 2)}, ranking.alike
    joined = {(i, j) for i, j in pairs if any(first <= i and j <= end for first, end in runs)}
    assert joined == {pair for pair in pairs if not ranking.differ[pair]}


@given(arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 8))))
def test_what_is_ranked_has_no_gap_and_the_sets_that_most_models_have(known: np.ndarray) -> None:
    part = complete(pd.DataFrame(np.where(known, 1.0, np.nan)))
    assert part.notna().all(axis=None)
    sets = np.flatnonzero(2 * known.sum(0) > len(known))
    assert [*part.columns] == [*sets]
    assert [*part.index] == [*np.flatnonzero(known[:, sets].all(1))]


@pytest.mark.parametrize("study", STUDIES)
def test_a_run_with_five_sets_has_a_score_and_a_diagram(study: str) -> None:
    make, tables, figures = STUDIES[study]
    levels = {"gaussian": -3.0, "mixture": -0.9, "maf": -1.0, "cnf": -0.8, "glow": -2.0}
    parts = [make(levels | {"maf": -1.0 + 0.15 * n}, turn=1 + 0.1 * n) for n in range(3)]
    parts = [part.assign(dataset=part["dataset"] + str(n)) for n, part in enumerate(parts)]
    rows = pd.concat(parts, ignore_index=True).assign(test_ll_se=0.01, run="one")
    rows["key"] = [f"case-{number}" for number in range(len(rows))]
    rows = rows[rows["seed"] < 3]
    rows = rows[(rows["flow"] != "glow") | (rows["dataset"] != "2spirals0")]
    few = rows[~rows["dataset"].isin(["2spirals0", "2spirals1"])]
    assert Ranking.of(few.assign(series=few["flow"])) is None
    failed = (rows["flow"] == "cnf") & (rows["dataset"] == "2spirals1") & (rows["seed"] == 2)
    ranking = Ranking.of(rows[~failed].assign(series=rows["flow"]))
    assert ranking is not None
    assert {"cnf", "glow"} <= {*ranking.left_out}
    score, overview = [table for table in tables(rows) if table.name != "frontier-leaders"][:2]
    assert score.name == f"{study}-score"
    assert score.first is not None
    assert "glow" in score.note
    frame = score.frame.set_index("model")
    assert [*overview.frame["model"]] == [*frame.index, "glow"]
    last = rows[rows.get(BUDGET, pd.Series(60.0, rows.index)).fillna(60.0) == 60.0]
    means = last.groupby(["flow", "dataset"])["test_ll"].mean().unstack().drop("glow")
    ranks = means.rank(ascending=False).mean(axis=1)
    won = {name: (means.loc[name] > means.drop(name)).mean(axis=None) for name in means.index}
    closed = (means - means.loc["gaussian"]) / (means.max() - means.loc["gaussian"])
    for name, expected in {
        "rank": ranks, "wins": pd.Series(won),
        "closed": closed.mean(axis=1), "median": closed.median(axis=1),
        "half": closed.sem(axis=1) * stats.t.ppf(0.975, 5),
    }.items():  # fmt: skip
        assert frame[name].to_dict() == pytest.approx(expected.to_dict()), name
    kinds = {"cnf": "continuous", "maf": "discrete", "mixture": "baseline", "gaussian": "baseline"}
    assert frame["kind"].to_dict() == kinds
    diagram = next(figure for figure in figures(rows) if figure.name == f"{study}-ranks")
    panel = diagram.draw().axes[0]
    assert all(any(name in text.get_text() for text in panel.texts) for name in frame.index)
    assert {*itertools.chain(*score.rows_from)} == {*diagram.records} < {*rows["key"]}

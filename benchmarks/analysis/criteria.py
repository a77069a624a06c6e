"""Levels of tests, of claims, tables and the gate alike, and what is level.

Since 2026-11-29, version 9 of the claims' criteria (records were known by then):

- `FEWEST`: a longer budget on fewer splits took evidence away. Each budget is judged by itself.
- `MARGIN` no longer grows with the dimension: see `margin`.
- A signed-rank test stands beside Student's t, since one row can decide a mean.
- What was still improving is a note: all flows of a search had equal seconds.
"""

import math

LEVEL = 0.05  # family-wise, by Holm's correction; of claims over all of them that rest on tests
UPDATES = 100  # from which on a flow counts as trained: fewer do not show what it can do
FEWEST = 5  # splits, draws or trainings below which a comparison of a claim decides nothing
MARGIN = {"most": 0.05, "per_dim": 0.01, "of_gap": 0.05, "least": 0.01}  # see `margin`


def margin(dim: int, gap: float = math.inf) -> float:
    """Difference of mean log-likelihoods in ``dim`` dimensions, nats, below which two are level.

    The smallest of three. 0.05: no classifier tells a model that is so far from the truth from it
    in more than 58 % of cases (Pinsker's inequality), whatever the dimension. Two modes are worth
    the same nats in any dimension too: 0.01 a dimension as a lower bound made a Gaussian level with
    them in twenty, and is an upper bound now. A twentieth of ``gap``, what the best model gains
    over a Gaussian; not below 0.01, since a Gaussian may be the truth.
    """
    of_gap = max(MARGIN["least"], MARGIN["of_gap"] * gap)
    return min(MARGIN["most"], MARGIN["per_dim"] * dim, of_gap)

"""Photos that nobody scored, judged by runs and ranked, so that the best can be chosen.

The expected score ranks them, of two levels the share of the high one: unlike the assigned score
it tells photos apart that get the same one.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rsrl_lib.deciding import moments
from rsrl_lib.duplicates import near_duplicates
from rsrl_lib.pixels import Pixels
from rsrl_lib.runs import Judges, Run
from rsrl_lib.training import likelihoods


@dataclass(frozen=True)
class Answers:
    """What one or several runs say of photos (n,)."""

    shares: pd.DataFrame
    """(n, levels) of the posterior, by which a level is assigned; they add up to 1."""
    likelihoods: pd.DataFrame
    """(n, levels) sigmoids of the chosen network, one question a level (RSRL eq. 1-3)."""
    attributes: pd.DataFrame
    """(n, any) sigmoids of the attributes that it has learned."""
    percentile: pd.Series
    """(n,) of the expected score among the run's training photos; NaN where these are not known."""

    def expected(self, scores: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Expected score (n,) and its standard deviation (n,)."""
        # In rows, so that the sum of a photo does not depend on how many others there are.
        shares = np.ascontiguousarray(self.shares.to_numpy())
        return moments(shares, scores)


def answers_of(judges: Judges, pixels: Pixels, of_training: np.ndarray) -> Answers:
    """What a run's judges say of photos; `of_training` are the expected scores of its own."""
    network = judges.chosen
    own, together = judges.logits(pixels, attributes=True)
    posterior = np.exp(judges.rule.log_posterior(together))
    count = len(network.levels)
    likely = likelihoods(own)
    expected, _ = moments(posterior, network.scores)
    return Answers(
        pd.DataFrame(posterior, columns=network.levels),
        pd.DataFrame(likely[:, :count], columns=network.levels),
        pd.DataFrame(likely[:, count:], columns=network.attributes),
        pd.Series(percentiles(expected, of_training)),
    )


def mean_of(answers: Sequence[Answers]) -> Answers:
    """The mean of what several runs say; of an attribute, of the runs that have learned it."""
    means = {}
    for name in ("shares", "likelihoods", "attributes", "percentile"):
        parts = [getattr(each, name) for each in answers]
        if name == "percentile":
            means[name] = sum(parts) / len(parts)  # unknown where one of them is
        else:
            means[name] = pd.concat(parts).groupby(level=0).mean()
    return Answers(**means)


def expected_of_training(run: Run) -> np.ndarray:
    """Expected scores of a run's training photos by its chosen round; none where it has not kept
    them, as runs of before did not."""
    if not (run.folder / "samples.parquet").exists():
        return np.array([])
    samples = run.samples
    if "expected" not in samples:
        return np.array([])
    is_chosen = samples["round"] == run.chosen
    is_of_training = samples["part"] == "train"
    return samples["expected"][is_chosen & is_of_training].to_numpy(float)


def percentiles(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Percent of some others (m,) that each value (n,) exceeds; of those it equals, half count.

    >>> percentiles(np.array([1.0, 3.0, 9.0]), np.array([2.0, 3.0, 3.0, 4.0])).tolist()
    [0.0, 50.0, 100.0]
    """
    if not len(among):
        return np.full(len(values), np.nan)
    ordered = np.sort(among)
    below = np.searchsorted(ordered, values, "left")
    up_to = np.searchsorted(ordered, values, "right")
    return 50 * (below + up_to) / len(ordered)


def table_of(
    photos: Sequence[str],
    answers: Answers,
    *,
    scores: Sequence[int],
    groups: np.ndarray | None = None,
) -> pd.DataFrame:
    """A row for each photo: level or score, expected score and spread, rank (1 is the best),
    percentile, group of near-duplicates where they are given, shares, likelihoods and attributes.

    `scores` are those of the levels, in order.
    """
    expected, spread = answers.expected(scores)
    levels = list(answers.shares)
    assigned = answers.shares.to_numpy().argmax(1)
    are_scores = "high" not in levels
    table = pd.DataFrame({"photo": list(photos)})
    if not are_scores:
        table["level"] = [levels[node] for node in assigned]
    else:
        table["score"] = np.array(scores)[assigned]
        table["expected"] = expected
        table["spread"] = spread
    rank = pd.Series(expected).rank(ascending=False, method="min")
    table["rank"] = rank.astype(int)
    table["percentile"] = answers.percentile
    if groups is not None:
        table["group"] = groups
        table["best_of_group"] = best_of_groups(expected, groups)
    shares = answers.shares.add_prefix("share_")
    likelihoods = answers.likelihoods.add_prefix("likelihood_")
    attributes = answers.attributes.add_prefix("attribute_")
    return pd.concat([table, shares, likelihoods, attributes], axis=1)


def as_json_lines(table: pd.DataFrame) -> str:
    """A line of JSON for each row; what is not known is null."""
    known = table.astype(object).where(table.notna(), None)
    lines = [json.dumps(row, ensure_ascii=False) for row in known.to_dict("records")]
    return "".join(f"{line}\n" for line in lines)


def groups_of(pixels: Pixels, bits: int) -> np.ndarray:
    """Number (n,) of the photos that each looks like, the largest group first; 0: like none."""
    return near_duplicates(pixels.array, bits).group


def best_of_groups(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Whether each photo (n,) has the highest value of its group, the first of equal ones; what is
    in no group (0) is the best of itself."""
    order = np.argsort(-values, kind="stable")
    is_again = pd.Series(groups[order]).duplicated().to_numpy()
    is_best = np.empty(len(values), bool)
    is_best[order] = ~is_again
    return is_best | (groups == 0)


def sorted_by(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows by a column: names and ranks rising, groups with the best first and photos of none
    last, other numbers falling."""
    if column == "group":
        by_rank = table.sort_values("rank", kind="stable")
        number = by_rank["group"].replace(0, len(table) + 1)
        return by_rank.loc[number.sort_values(kind="stable").index]
    rises = column in ("photo", "rank")
    return table.sort_values(column, ascending=rises, kind="stable")


def best(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The `count` photos of the best rank, one of each group of near-duplicates, best first."""
    ranked = table.sort_values("rank", kind="stable")
    if "best_of_group" in ranked:
        ranked = ranked[ranked["best_of_group"]]
    return ranked.head(count)

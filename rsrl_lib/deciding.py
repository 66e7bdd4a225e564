"""From the nodes of a network to one score, to the score that is expected, and to its spread.

The papers take the score of the largest node. Two things are lost so. A network that learned from
few photos of a score hardly ever says it, whatever it sees: the posterior, the softmax of the
nodes, can be divided by the prior to a power (logit adjustment, Menon et al. 2021). And nodes do
not know that 4 lies between 3 and 5: the posterior can be joined with one that does, a normal
distribution about the mean score that the nodes let expect, cut at the borders of the classes. Both
are fitted on photos that whoever judges them has not seen. Traded away: a decision of its own for
every photo, such as one that weighs what an error costs there.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy.special import log_softmax
from scipy.stats import norm

from rsrl_lib.measures import measures
from rsrl_lib.recipe import Decide, DecideFor
from rsrl_lib.settings import check

POWERS = np.linspace(0, 2, 21)
"""Powers of the prior that are tried; 2, as a joined posterior holds the prior twice."""
FAR = 1e-12
"""Added to the normal posterior, so that no score is impossible."""


@dataclass(frozen=True)
class Ordinal:
    """Where the mean score of a photo lies, if its nodes let some score be expected: normally."""

    slope: float
    """Of the regression of mean scores on expected scores."""
    intercept: float
    """Of the regression, in scores."""
    error: float
    """Standard deviation of the regression, in scores."""
    borders: tuple[float, ...]
    """Mean scores between one class and the next."""

    def __post_init__(self):
        check(self, error=0)

    def log_posterior(self, expected: np.ndarray) -> np.ndarray:
        """Log of the probability of each class (n, scores), for expected scores (n,)."""
        centre = self.intercept + self.slope * expected
        edges = np.array([-np.inf, *self.borders, np.inf])
        below = norm.cdf((edges - centre[:, None]) / self.error)  # (n, scores + 1)
        return np.log(np.diff(below) + FAR)


@dataclass(frozen=True)
class DecisionRule:
    """How a network's logits become a score; without prior and `ordinal`, by the largest node."""

    scores: tuple[int, ...]
    prior: tuple[float, ...] = ()
    """Share of each score among the photos that the network learned from."""
    power: float = 0.0
    """Of the prior, by which the posterior is divided."""
    ordinal: Ordinal | None = None

    def __post_init__(self):
        check(self, power=0)

    def log_posterior(self, logits: np.ndarray) -> np.ndarray:
        """Log of what the scores are weighed by (n, scores), float64, for logits (n, scores)."""
        values = log_softmax(logits.astype(np.float64), axis=1)
        if self.ordinal is not None:
            expected = np.exp(values) @ self.scores
            values = values + self.ordinal.log_posterior(expected)
        if self.prior:
            values = values - self.power * np.log(self.prior)
        return log_softmax(values, axis=1)

    def nodes(self, logits: np.ndarray) -> np.ndarray:
        """Node (n,) of the score that each photo gets."""
        return self.log_posterior(logits).argmax(1)

    def expected(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Expected score (n,) and its standard deviation (n,), by what the scores are weighed by.

        >>> rule = DecisionRule(scores=(4, 5, 6))
        >>> mean_and_spread = rule.expected(np.array([[0.0, 9.0, 0.0]]))
        >>> [values.round(2).tolist() for values in mean_and_spread]
        [[5.0], [0.02]]
        """
        return moments(np.exp(self.log_posterior(logits)), self.scores)

    def in_words(self) -> str:
        """What decides, for a sentence."""
        if not self.prior:
            return "the largest node"
        posterior = "the largest posterior"
        if self.ordinal is not None:
            posterior += ", joined with a normal one of the mean score and"
        return f"{posterior} divided by the prior to the power {self.power:g}"

    def as_text(self) -> str:
        """JSON, of which `read_rule` makes the same rule."""
        return json.dumps(asdict(self))


def moments(
    posterior: np.ndarray, scores: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (n,) and standard deviation (n,) of the scores, by a posterior (n, scores)."""
    expected = posterior @ scores
    apart = np.asarray(scores) - expected[:, None]
    variance = (posterior * apart**2).sum(1)
    return expected, np.sqrt(variance)


def read_rule(text: str) -> DecisionRule:
    """The rule of a text that `as_text` wrote; `ValueError` or `TypeError` for any other."""
    facts = json.loads(text)
    ordinal = facts.pop("ordinal")
    if ordinal is not None:
        ordinal = Ordinal(**ordinal | {"borders": tuple(ordinal["borders"])})
    lists = {name: tuple(facts.pop(name)) for name in ("scores", "prior")}
    rule = DecisionRule(**facts, **lists, ordinal=ordinal)
    has_shares = (
        len(rule.prior) in (0, len(rule.scores)) and min(rule.prior, default=1) > 0
    )
    has_borders = ordinal is None or len(ordinal.borders) == len(rule.scores) - 1
    has_error = ordinal is None or ordinal.error > 0
    if not (has_shares and has_borders and has_error):
        raise ValueError("scores, prior and borders do not go together")
    return rule


def fit_rule(
    decide: Decide,
    logits: np.ndarray,
    labels: np.ndarray,
    *,
    scores: Sequence[int],
    mean_scores: np.ndarray,
    borders: Sequence[float],
    learned: np.ndarray,
    measure: DecideFor = "macro_f1",
) -> DecisionRule:
    """The rule that decides best, by a measure, about photos that were not learned from.

    Of these photos `logits` (n, scores), `labels` (n,) and `mean_scores` (n,) are given; of those
    that were learned from the labels `learned` (m,), whose shares are the prior. A score that none
    of them has counts as if one had. `borders` (scores - 1,) are those of the classes in mean
    scores. Of powers that are equally good the smallest is taken.
    """
    rule = DecisionRule(tuple(scores))
    if decide == "largest":
        return rule
    counts = (learned[:, None] == scores).sum(0)
    shares = np.maximum(counts, 1) / np.maximum(counts, 1).sum()
    rule = replace(rule, prior=tuple(shares.tolist()))
    if decide == "ordinal":
        expected, _ = rule.expected(logits)
        rule = replace(rule, ordinal=fit_ordinal(expected, mean_scores, borders))

    rules = [replace(rule, power=float(power)) for power in POWERS]
    qualities = []
    for each in rules:
        assigned = np.asarray(scores)[each.nodes(logits)]
        quality = measures(labels, assigned, scores)[measure]
        # Of kappa nothing is known where all get one score.
        qualities.append(-quality if measure == "macro_mae" else np.nan_to_num(quality))
    return rules[int(np.argmax(qualities))]


def fit_ordinal(
    expected: np.ndarray, mean_scores: np.ndarray, borders: Sequence[float]
) -> Ordinal:
    """Regression of mean scores (n,) on expected scores (n,), by least squares."""
    apart = expected - expected.mean()
    variance = (apart**2).mean()
    covariance = (apart * mean_scores).mean()
    slope = covariance / variance if variance > 0 else 0.0
    intercept = mean_scores.mean() - slope * expected.mean()
    error = (mean_scores - intercept - slope * expected).std()
    # Photos that lie on one line do not say how far others will lie from it.
    error = max(error, 0.01)
    return Ordinal(float(slope), float(intercept), float(error), tuple(borders))


def borders_of(labels: np.ndarray, scores: np.ndarray) -> tuple[float, ...]:
    """Borders of the classes (labels - 1,): halfway from one's highest score to the next's lowest.

    A class has more than one score where rare ones (n,) were merged into a label (n,).

    >>> borders_of(np.array([3, 3, 4, 6]), np.array([2, 3, 4, 6]))
    (3.5, 5.0)
    """
    classes = np.unique(labels)
    highest = np.array([scores[labels == label].max() for label in classes])
    lowest = np.array([scores[labels == label].min() for label in classes])
    return tuple(((highest[:-1] + lowest[1:]) / 2).tolist())

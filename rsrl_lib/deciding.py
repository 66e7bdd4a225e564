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

from rsrl_lib.files import InputError
from rsrl_lib.measures import counted, of_confusions
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
    """The rule of a text that `as_text` wrote; `ValueError` for any other."""
    try:
        facts = json.loads(text)
        ordinal = facts.pop("ordinal")
        if ordinal is not None:
            ordinal = Ordinal(**ordinal | {"borders": tuple(ordinal["borders"])})
        lists = {name: tuple(facts.pop(name)) for name in ("scores", "prior")}
        rule = DecisionRule(**facts, **lists, ordinal=ordinal)
    except (AttributeError, InputError, KeyError, TypeError) as error:
        raise ValueError(f"no rule of a decision: {error}") from error
    _check_fits(rule)
    return rule


def _check_fits(rule: DecisionRule) -> None:
    """`ValueError` where scores, prior and borders do not go together."""
    shares = np.array(rule.prior)
    borders = [] if rule.ordinal is None else rule.ordinal.borders
    are_shares = not len(shares) or (
        len(shares) == len(rule.scores)
        and (shares > 0).all()
        and np.isclose(shares.sum(), 1)
    )
    are_borders = rule.ordinal is None or (
        len(borders) == len(rule.scores) - 1 and rule.ordinal.error > 0
    )
    rises = all((np.diff(values) > 0).all() for values in (rule.scores, borders))
    if not (are_shares and are_borders and rises):
        raise ValueError("scores, prior and borders of a decision do not go together")


def fit_rule(
    decide: Decide,
    logits: np.ndarray,
    labels: np.ndarray,
    *,
    scores: Sequence[int],
    mean_scores: np.ndarray,
    borders: Sequence[float],
    learned: np.ndarray,
    weights: np.ndarray | None = None,
    measure: DecideFor = "macro_f1",
) -> DecisionRule:
    """The rule that decides best, by a measure, about photos that were not learned from.

    Of these photos `logits` (n, scores), `labels` (n,) and `mean_scores` (n,) are given; of those
    that were learned from the labels `learned` (m,) and their `weights` (m,) in the loss, of which
    each score's share is the prior. A score that none of them has counts as if one had. `borders`
    (scores - 1,) are those of the classes in mean scores. Of powers that are equally good the
    smallest is taken.
    """
    rule = DecisionRule(tuple(scores))
    if decide == "largest":
        return rule
    rule = replace(rule, prior=prior_of(learned, scores, weights))
    if decide == "ordinal":
        expected, _ = rule.expected(logits)
        rule = replace(rule, ordinal=fit_ordinal(expected, mean_scores, borders))

    nodes = np.searchsorted(scores, labels)
    undivided = rule.log_posterior(logits)
    confusions = []
    for power in POWERS:
        assigned = (undivided - power * np.log(rule.prior)).argmax(1)
        counts, _ = counted(nodes, assigned, range(len(scores)))
        confusions.append(counts)
    qualities = of_confusions(np.stack(confusions), scores)[measure]
    if measure == "macro_mae":
        qualities = -qualities
    # Of kappa nothing is known where all get one score.
    best = np.nan_to_num(qualities).argmax()
    return replace(rule, power=float(POWERS[best]))


def prior_of(
    learned: np.ndarray, scores: Sequence[int], weights: np.ndarray | None = None
) -> tuple[float, ...]:
    """Share of each score among photos of labels (m,), each counted by its weight (m,).

    >>> prior_of(np.array([4, 4, 4, 5]), (4, 5))
    (0.75, 0.25)
    """
    if weights is None:
        weights = np.ones(len(learned))
    nodes = np.searchsorted(scores, learned)
    counts = np.bincount(nodes, weights / weights.mean(), minlength=len(scores))
    counts = np.maximum(counts, 1)
    return tuple((counts / counts.sum()).tolist())


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


def is_of_one_scale(scores: np.ndarray, mean_scores: np.ndarray) -> bool:
    """Whether most scores (n,) are the rounded mean scores (n,), so that both have one scale.

    >>> is_of_one_scale(np.array([4, 5, 9]), np.array([3.8, 5.1, 4.0]))
    True
    >>> is_of_one_scale(np.array([4, 5, 9]), np.array([38.0, 51.0, 90.0]))
    False
    """
    return bool(np.median(np.abs(scores - mean_scores)) <= 0.5)


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

"""Which training photos a round was trained without, and why: the rows of `dropped.csv`.

A row stands for a photo and a later round of which there is something to say: the photo lay below
K, was left out, was rescued, or returned. All other photos were trained on. `round` is the round
that learned with or without the photo. Its likelihood is that of the round before, by whoever
judged: the last network, or one that had not seen the photo.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.special import logit as logit_of

from rsrl_lib.controls import CONTROLS
from rsrl_lib.drop_rules import Decision, largest_classes

COLUMNS = ["photo", "score", "round", "likelihood", "k", "kept", "rescued", "returned"]
NOTHING = pd.DataFrame(columns=COLUMNS)
AT_RANDOM = ("random-drop", "random-drop-same")
BY_UNSEEN = ("cross-fitted", "confident-learning")


def told(
    decision: Decision, photos: pd.DataFrame, i: int, before: pd.DataFrame
) -> pd.DataFrame:
    """What a decision says of the original training photos (n,) before round `i`.

    `photos` are their `photo`, `score` and `label`; `before` are the rows of earlier rounds.
    """
    labels = photos.label.to_numpy()
    count = len(labels)
    unknown = np.full(count, np.nan)
    k = unknown.copy()
    logit_k = unknown.copy()
    majorities = largest_classes(labels)
    # A control of one's own may give thresholds in part, or none.
    of_each = zip(
        majorities, decision.thresholds, decision.logit_thresholds, strict=False
    )
    for majority, threshold, logit_threshold in of_each:
        has_score = labels == majority
        k[has_score] = threshold
        logit_k[has_score] = logit_threshold

    logits = unknown
    if decision.logits is not None:
        logits = np.asarray(decision.logits, np.float64)
    rescued = np.zeros(count, bool)
    if decision.is_rescued is not None:
        rescued = decision.is_rescued
    of_last = before[before["round"] == i - 1]
    was_out = of_last[~of_last.kept.astype(bool)]
    returned = decision.kept & photos.photo.isin(was_out.photo).to_numpy()
    table = pd.DataFrame(
        {
            "photo": photos.photo.to_numpy(),
            "score": photos.score.to_numpy(),
            "round": i,
            "likelihood": expit(logits),
            "k": k,
            "kept": decision.kept,
            "rescued": rescued,
            "returned": returned,
        }
    )
    is_below = logits < logit_k
    says_something = is_below | ~decision.kept | rescued | returned
    return table[says_something].reset_index(drop=True)


def joined(before: pd.DataFrame, news: pd.DataFrame) -> pd.DataFrame:
    """The rows of earlier rounds and of a new one."""
    tables = [table for table in (before, news) if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else NOTHING.copy()


def derived(
    samples: pd.DataFrame, rounds: pd.DataFrame, split: pd.DataFrame, recipe: Mapping
) -> pd.DataFrame:
    """The same rows of a run that was made before it kept them, from its other tables.

    `recipe` is that of run.json. Where photos were judged by networks that had not seen them, what
    these said was not kept: `likelihood` is then empty, `rescued` too where any photo was, and a
    photo that was rescued and never left out has no row.
    """
    control = recipe["control"]
    if not CONTROLS[control].follows_rule and control != "confident-learning":
        return NOTHING.copy()
    score = split.set_index("photo").score
    table = NOTHING
    for i in rounds["round"][1:]:
        now = samples[(samples["round"] == i) & (samples.part == "train")]
        last = samples[samples["round"] == i - 1].set_index("photo").loc[now.photo]
        facts = rounds.set_index("round").loc[i]
        decision = _decision(now.kept.to_numpy(), last, facts, recipe)
        photos = now[["photo"]].assign(
            score=score[now.photo].to_numpy(), label=now.label.to_numpy(int)
        )
        news = told(decision, photos, i, table)
        if decision.logits is None and facts.rescued:
            news = news.assign(rescued=pd.NA)
        table = joined(table, news)
    return table


def _decision(
    kept: np.ndarray, last: pd.DataFrame, facts: pd.Series, recipe: Mapping
) -> Decision:
    """What decided before a round, as far as the tables tell; `last` is what was said after the
    round before, `facts` is the round's row."""
    drop = recipe["drop"]
    thresholds = facts[["k1", "k2", "k3"]].dropna().to_numpy(float)
    logit_thresholds = logit_of(thresholds)
    if "k1_logit" in facts:  # runs of before have none
        names = ["k1_logit", "k2_logit", "k3_logit"]
        logit_thresholds = facts[names].dropna().to_numpy(float)
    is_unseen = recipe["control"] in BY_UNSEEN
    is_unseen |= drop.get("judges", "own") == "cross-fitted"
    if is_unseen:
        return Decision(kept, 0, tuple(thresholds), tuple(logit_thresholds))
    read = "own_logit" if drop["rule"] == "own-class" else "top_logit"
    logits = last[read].to_numpy(np.float64)
    rescued = np.zeros(len(kept), bool)
    if recipe["control"] not in AT_RANDOM:
        labels = last.label.to_numpy(int)
        for majority, logit_k in zip(
            largest_classes(labels), logit_thresholds, strict=False
        ):
            rescued |= kept & (labels == majority) & (logits < logit_k)
    return Decision(
        kept,
        int(rescued.sum()),
        tuple(thresholds),
        tuple(logit_thresholds),
        logits,
        rescued,
    )

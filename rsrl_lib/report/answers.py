"""What a run, or the five runs of all folds, answered on the photos that test; two of them beside
each other.

Answers are compared photo by photo, so that what two runs share cancels: hard photos are hard for
both. Intervals are over other photos alone. Another training, or another division of the photos,
may give other answers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rsrl_lib.files import InputError
from rsrl_lib.measures import paired_differences
from rsrl_lib.recipe import FOLDS
from rsrl_lib.runs import Run, open_run

MEASURES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "kappa": "kappa",
    "macro_mae": "macro MAE",
}
ERRORS = ("macro_mae",)
"""Measures of which less is better."""


@dataclass(frozen=True)
class Answers:
    """Answers of a chosen round on the photos that test."""

    name: str
    table: pd.DataFrame
    """photo, digest, label and assigned."""
    scores: list[int]
    """All labels that photos of the run have, whether they test or not."""
    scale: str
    """What the labels mean, in words."""


def is_of_folds(path: Path) -> bool:
    """Whether a folder holds a run for each fold."""
    return (Path(path) / "fold_0").is_dir()


def runs_of(path: Path) -> list[Run]:
    """The run in a folder, or those of all folds; `InputError` where one of them is not there."""
    path = Path(path)
    if not is_of_folds(path):
        return [open_run(path)]
    return [open_run(path / f"fold_{fold}") for fold in range(FOLDS)]


def answers_of(path: Path) -> Answers:
    """What a run answers, or those of all folds together, each on its own test photos.

    Raises `InputError` where there is no run, and where none of its photos tests.
    """
    runs = runs_of(path)
    tables = [of_run(run) for run in runs]
    scores = sorted(set().union(*(run.split.label for run in runs)))
    together = pd.concat(tables, ignore_index=True)
    return Answers(
        str(path), together, [int(score) for score in scores], scale(runs[0])
    )


def of_run(run: Run, number: int | None = None) -> pd.DataFrame:
    """photo, digest, label and assigned of the test photos, by the chosen round or by another one;
    `InputError` where none tests."""
    samples = run.samples
    number = run.chosen if number is None else number
    is_asked = (samples.part == "test") & (samples["round"] == number)
    if not is_asked.any():
        raise InputError(
            f"{run.folder} holds out no test photos, so nothing tells what it is worth on others; "
            "train one with a part that tests."
        )
    test = samples[is_asked][["photo", "label", "assigned"]]
    test = test.astype({"label": int, "assigned": int})
    return test.assign(digest=digests(run)[test.photo].to_numpy()).reset_index(
        drop=True
    )


def digests(run: Run) -> pd.Series:
    """Digest of each photo's file; empty in runs of before, which have none."""
    split = run.split.set_index("photo")
    return split.get("digest", pd.Series("", split.index))


def scale(run: Run) -> str:
    """What the labels of a run mean, so that other runs can be compared with it."""
    recipe = run.info["recipe"]
    if recipe["levels"] == "low-high":
        return f"low and high, cut at {recipe['cut']:g}"
    scores = sorted(run.split.label.unique())
    return f"scores {', '.join(map(str, scores))}"


@dataclass(frozen=True)
class Compared:
    """Two runs on the photos that both test."""

    a: Answers
    b: Answers
    both: pd.DataFrame
    """photo, label, assigned_a, assigned_b."""
    measures: pd.DataFrame
    """measure, a, b, difference (a less b), and its 95 % interval, low to high."""
    corrected: pd.DataFrame
    """The same, its intervals widened as five measures are asked."""

    @property
    def wins(self) -> dict[str, int]:
        """Photos by who is right: both, a_only, b_only, neither."""
        a = self.both.assigned_a == self.both.label
        b = self.both.assigned_b == self.both.label
        return {
            "both": int((a & b).sum()),
            "a_only": int((a & ~b).sum()),
            "b_only": int((b & ~a).sum()),
            "neither": int((~a & ~b).sum()),
        }

    @property
    def table(self) -> pd.DataFrame:
        """All numbers as they are kept: measures, then counts of photos."""
        counts = [{"measure": f"photos_{n}", "a": c} for n, c in self.wins.items()]
        return pd.concat([self.measures, pd.DataFrame(counts)], ignore_index=True)


def compared(a: Answers, b: Answers) -> Compared:
    """Two runs beside each other; `InputError` where their scales or photos differ, or no photo
    tests in both."""
    _check_scale(a, b)
    both = a.table.merge(b.table, on="photo", suffixes=("_a", "_b"))
    if both.empty:
        raise InputError(
            f"{a.name} and {b.name} have no test photo in common, of {len(a.table)} and "
            f"{len(b.table)}; give two runs on the same photos and the same --fold and --seed."
        )
    for column, what in (("digest", "files"), ("label", "scores")):
        differs = both[f"{column}_a"] != both[f"{column}_b"]
        if differs.any():
            first = both.photo[differs].iloc[0]
            raise InputError(
                f"{a.name} and {b.name} were made with different {what} of {differs.sum()} photos "
                f"(first: {first}); give two runs on the same photos."
            )
    both = both.rename(columns={"label_a": "label"})
    arguments = (
        both.label.to_numpy(),
        both.assigned_a.to_numpy(),
        both.assigned_b.to_numpy(),
        sorted({*a.scores, *b.scores}),
    )
    return Compared(
        a,
        b,
        both[["photo", "label", "assigned_a", "assigned_b"]],
        _five(paired_differences(*arguments)),
        _five(paired_differences(*arguments, level=1 - 0.05 / len(MEASURES))),
    )


def _check_scale(a: Answers, b: Answers) -> None:
    if a.scale != b.scale:
        raise InputError(
            f"Two runs of the same scale are needed, {a.name} has {a.scale} and {b.name} has "
            f"{b.scale}; give two that are alike."
        )


def _five(differences: pd.DataFrame) -> pd.DataFrame:
    """The five measures that are told, each a row."""
    table = differences.loc[list(MEASURES)].rename_axis("measure").reset_index()
    return table.rename(columns={"assigned": "a", "baseline": "b"})


def in_a_sentence(
    compared: Compared, name: Callable[[Answers], str] = lambda answers: answers.name
) -> str:
    """Which of the two is better in which measures, as far as that is more than chance.

    Five measures are asked, so each interval is widened to 1 - 0.05 / 5 (Bonferroni).
    """
    a, b = name(compared.a), name(compared.b)
    better = {a: [], b: []}
    for row in compared.corrected.itertuples():
        sign = -1 if row.measure in ERRORS else 1
        for who, direction in ((a, sign), (b, -sign)):
            if min(direction * row.low, direction * row.high) > 0:
                better[who].append(MEASURES[row.measure])
    clauses = [f"{who} is better in {_joined(m)}" for who, m in better.items() if m]
    photos = len(compared.both)
    if clauses:
        return f"On {photos} test photos {_joined(clauses)}, beyond chance."
    return (
        f"{photos} test photos do not tell the two apart: each of the five differences may be "
        "chance."
    )


def _joined(words: list[str]) -> str:
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last


def commonest(run: Run) -> int:
    """The commonest label of the training photos, of several the lower one."""
    labels = run.split.label[run.split.part == "train"]
    return int(labels.value_counts().sort_index().idxmax())


def right(table: pd.DataFrame) -> int:
    """How many photos got their label."""
    return int(np.sum(table.assigned == table.label))

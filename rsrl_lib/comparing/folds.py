"""All five folds of one recipe, each a run of its own: every photo is tested once.

In the folder of such a run lie the runs `fold_0` to `fold_4`, and of them together

    folds.csv           a row a fold: the chosen round, and its measures on the test photos
    over_folds.csv      a row a measure: mean and standard deviation over the folds, and the measure
                        of all photos together with its 95 % interval over them
    confusion.csv       confusion matrix of all photos, each judged in the fold that tests it
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from rsrl_lib.dataset import Strangers
from rsrl_lib.files import InputError, replacing
from rsrl_lib.measures import interval_over_photos, of_confusions
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.pixels import Pixels
from rsrl_lib.recipe import FOLDS, Recipe
from rsrl_lib.rounds import repeat
from rsrl_lib.runs import Run

TABLES = ("folds.csv", "over_folds.csv", "confusion.csv")


def repeat_folds(
    photos: ScoredPhotos,
    pixels: Pixels,
    folder: Path,
    recipe: Recipe,
    *,
    other: Strangers | None = None,
    on_start: Callable[[Run], None] = lambda run: None,
    say: Callable[[str], object] | None = None,
) -> list[Run]:
    """Run the loop once for each fold, as `repeat` does one; those that are finished are returned.

    The recipe's own fold is not read. Raises `InputError` as `repeat` does, and where photos are
    not divided into folds.
    """
    check_has_folds(photos, recipe)
    runs = []
    for fold in range(FOLDS):
        of_fold = replace(recipe, fold=fold)
        folder_of_fold = folder / f"fold_{fold}"
        how = {"other": other, "on_start": on_start, "say": say}
        runs.append(repeat(photos, pixels, folder_of_fold, of_fold, **how))
    return runs


def check_has_folds(photos: ScoredPhotos, recipe: Recipe) -> None:
    """`InputError` where the photos are divided by themselves, or none tests."""
    reason = ""
    if recipe.train_share == 1:
        reason = "with train_share 1 no photo tests"
    if "part" in photos.table:
        reason = "these come with parts of their own"
    if reason:
        raise InputError(
            f"All folds need photos that test in turn, and {reason}; leave --folds out."
        )


def check_folds_folder(folder: Path) -> None:
    """`InputError` where a folder holds other files than those of a run of all folds."""
    own = {
        *TABLES,
        "left_out.csv",
        "report.html",
        *(f"fold_{fold}" for fold in range(FOLDS)),
    }
    paths = folder.iterdir() if folder.exists() else ()
    others = [path.name for path in paths if path.name not in own]
    if others:
        raise InputError(
            f"{folder} holds {others[0]}, and a folder of all folds is needed; give a new or "
            "empty folder."
        )


def write_folds(runs: list[Run], folder: Path) -> dict[str, pd.DataFrame]:
    """Write the tables of all folds together; returned are they, by the names of their files."""
    tables = dict(zip(TABLES, _tables(runs), strict=True))
    for name, table in tables.items():
        with replacing(folder / name) as partial:
            table.to_csv(partial, index=False)
    return tables


def _tables(runs: list[Run]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """One row a fold, one row a measure, and the confusion matrix of all photos."""
    rows = []
    confusions = []
    for fold, run in enumerate(runs):
        rounds = run.rounds.set_index("round")
        chosen = rounds.loc[run.chosen].filter(like="test_")
        measured = chosen.rename(lambda name: name.removeprefix("test_"))
        rows.append({"fold": fold, "chosen": run.chosen, **measured})
        confusion = run.confusion
        is_of_test = (confusion.part == "test") & (confusion["round"] == run.chosen)
        confusions.append(confusion[is_of_test])
    folds = pd.DataFrame(rows)

    together = pd.concat(confusions).groupby(["label", "assigned"]).photos.sum()
    counts = together.unstack()
    scores = counts.index.to_numpy()
    pooled = of_confusions(counts.to_numpy(), scores)
    intervals = interval_over_photos(counts.to_numpy(), scores)
    measures = []
    for name, value in pooled.items():
        low, high = intervals[name]
        of_folds = folds[name]
        measures.append(
            {
                "measure": name,
                "mean": np.mean(of_folds),
                "sd": np.std(of_folds, ddof=1),
                "all_photos": float(value),
                "low": low,
                "high": high,
            }
        )
    return folds, pd.DataFrame(measures), together.reset_index()

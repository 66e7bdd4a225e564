"""What a run is made of and how it went, in sentences for whoever started it.

Every number comes from the run's files or the table of photos; nothing is trained or judged here.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from rsrl_lib.controls import CONTROLS
from rsrl_lib.drop_rules import largest_classes
from rsrl_lib.machine import machine, team
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.recipe import FOLDS, Recipe
from rsrl_lib.record import PARTS
from rsrl_lib.rounds import finished
from rsrl_lib.runs import Run

SHOWN = {
    "train": ["accuracy", "macro_f1"],
    "validation": ["accuracy", "macro_f1"],
    "test": ["accuracy", "macro_f1", "balanced_accuracy", "kappa"],
}
FEW = 1 / 3
"""Share of the training photos below which a round is said to have been left with few."""


def of_photos(photos: ScoredPhotos) -> str:
    """How many photos there are of which score."""
    return f"{len(photos)} photos. Photos with {_listed(_counts(photos))}."


def of_scores(photos: ScoredPhotos, merged: dict[int, int]) -> list[str]:
    """How many scores were rounded, and which count as another (`merged`) and why."""
    said = [photos.rounding] if photos.rounding else []
    for score, label in merged.items():
        said.append(f"Score {score} has too few photos to split and counts as {label}.")
    if merged:
        rare = _counts(photos)[list(merged)]
        # A score can have photos enough that are too few files, some of them there twice.
        needed = f"{FOLDS} different files" if (rare >= FOLDS).any() else FOLDS
        of_each = f"{needed} are needed, one for each fifth that may test"
        said.append(f"(Photos with {_listed(rare)}; {of_each}.)")
    return said


def of_start(photos: ScoredPhotos, run: Run, recipe: Recipe) -> list[str]:
    """What is going to be trained on what, before the first round is."""
    split, info = run.split, run.info
    said = [of_photos(photos)]
    if recipe.levels == "scores":
        said += of_scores(photos, run.merged_scores)
    else:
        high = int(split.label.sum())
        said.append(f"{high} of them are high, with a mean score above {recipe.cut:g}.")
    said.append(_parts(split, recipe))
    said += info.get("notices", [])
    done = _rounds_done(run)
    if finished(done, recipe):
        return said
    if len(done):
        said.append(
            f"{len(done)} rounds are finished already; round {len(done) + 1} is next."
        )
    said.append(
        f"Up to {recipe.rounds} rounds of {recipe.backbone} {_on_what(recipe)}."
    )
    return said


def of_end(run: Run) -> list[str]:
    """The rounds as a table, what its columns mean, and what should not be overlooked."""
    return [_table(run), *_legend(run), *warnings(run)]


def warnings(run: Run) -> list[str]:
    """Sentences about rounds that the drop rule left with few photos, and what F did."""
    drop, control = run.info["recipe"]["drop"], run.info["recipe"]["control"]
    if drop["keep_share"] is not None or not CONTROLS[control].follows_rule:
        return []  # as few as were asked for
    rounds, samples = run.rounds.set_index("round"), run.samples
    few = [
        i
        for i in rounds.index[1:]
        if _is_left_with_few(samples, i, drop["min_per_class"])
    ]
    if not few:
        return []
    worst = int(rounds.kept[few].idxmin())
    train = _training_photos(samples, worst)
    majorities = largest_classes(train.label.to_numpy(int))
    of_majorities = train[train.label.isin(majorities)]
    k = rounds.loc[worst, ["k1", "k2", "k3"]].dropna().unique()
    of_whom = f"scores {_joined(sorted(majorities))}"
    if run.info["recipe"]["levels"] == "low-high":
        of_whom = "levels low and high"
    which = f"round {few[0]}" if len(few) == 1 else f"rounds {_joined(few)}"
    said = [
        f"Warning: the drop rule left {which} with few photos. Round {worst} learned from "
        f"{int(train.kept.sum())} of {len(train)}: of {len(of_majorities)} with the {of_whom}, "
        f"{int(of_majorities.kept.sum())} stayed, {rounds.rescued[worst]} of these only by "
        f"--min-per-class {drop['min_per_class']}."
    ]
    first, then = (
        rounds.loc[i, ["test_macro_f1", "test_accuracy"]] for i in (1, worst)
    )
    said.append(
        f"From round 1 to {worst}, macro-F1 on the test photos went from {first.iloc[0]:.2f} to "
        f"{then.iloc[0]:.2f}, accuracy from {first.iloc[1]:.2f} to {then.iloc[1]:.2f}. A K below "
        f"{_joined(f'{value:g}' for value in k)} (--k), or --keep-share 0.667, keeps more."
    )
    return said


def few_of_sweep(
    rounds: pd.DataFrame, drops: pd.DataFrame, arms: Iterable[str]
) -> list[str]:
    """The same for cells of a sweep, in a sentence; `rounds` and `drops` are its tables."""
    photos = drops.groupby("cell").size()
    later = rounds[(rounds["round"] > 1) & rounds.arm.isin(list(arms))]
    few = later[later.kept < FEW * later.cell.map(photos)]
    if few.empty:
        return []
    cells = later.cell.nunique()
    return [
        f"Warning: in {few.cell.nunique()} of {cells} cells that drop by a K, a round was left "
        f"with less than a third of its training photos (arms {_joined(few.arm.unique())})."
    ]


def _parts(split: pd.DataFrame, recipe: Recipe) -> str:
    train, validation, test = (int((split.part == part).sum()) for part in PARTS)
    if recipe.choose == "test":
        said = f"{validation} are for validation, {test} test and also choose the round (a leak)"
    else:
        said = f"{validation} (validation) choose the round, {test} only test"
    if recipe.resplit != "never":
        said += "; the first two are divided anew in every round (a leak)"
    return f"Parts: {train} photos train, {said}."


def device_in_words(precision: str) -> str:
    """Where is computed, and how precisely."""
    here = machine(precision)
    device = here.get("device", "cpu")
    return f"on {'the processor' if device == 'cpu' else device} in {here['precision']}"


def _on_what(recipe: Recipe) -> str:
    """Where the weights come from, and on what is computed."""
    threads, processes = machine(recipe.training.precision)["threads"], team()[1]
    weights = (
        f"weights {recipe.weights!r}" if recipe.weights != "none" else "random weights"
    )
    of_work = f"{threads} thread{'s' * (threads != 1)}"
    said = (
        f"from {weights}, {device_in_words(recipe.training.precision)} with {of_work}"
    )
    return f"{said}, by {processes} processes" if processes > 1 else said


def _rounds_done(run: Run) -> pd.DataFrame:
    return run.rounds if run.has_begun else pd.DataFrame()


def _table(run: Run) -> str:
    rounds, choose = run.rounds, run.info["recipe"]["choose"]
    columns = {("", name): rounds[name] for name in ("round", "kept", "rescued")}
    columns["", "chosen"] = np.where(rounds.chosen, "yes", "")
    for part, names in SHOWN.items():
        for name in ["total_f", *names] if part == choose else names:
            columns[part, name.removesuffix("_accuracy")] = rounds[f"{part}_{name}"]
    return pd.DataFrame(columns).to_string(index=False, float_format="{:.3f}".format)


def _legend(run: Run) -> list[str]:
    info, first = run.info["recipe"], run.rounds.iloc[0]
    choose, least = info["choose"], info["drop"]["min_per_class"]
    train = int((run.split.part == "train").sum())
    kept = f"kept: photos that the round learned from, of {train} for training."
    if not CONTROLS[info["control"]].follows_rule:
        kept += f" The control {info['control']} chose them, no K did."
    elif least:
        kept += f" rescued: those below K that stayed as the {least} likeliest of their score."
    seen = (
        "no round learned from"
        if info["resplit"] == "never"
        else "earlier rounds learned from"
    )
    test = (
        "they chose nothing"
        if choose == "validation"
        else "they chose the round, a leak"
    )
    majority = [f"{first[f'{part}_majority_accuracy']:.3f} ({part})" for part in PARTS]
    return [
        kept,
        "chosen: the round that rsrl assess and crop use. Its total_f, F of all scores added up, "
        f"is the largest on the {choose} photos.",
        f"train: all training photos, dropped ones too. validation: photos that {seen}. "
        f"test: photos that no round learned from; {test}.",
        f"accuracy: always giving the commonest score reaches {', '.join(majority)}.",
    ]


def _training_photos(samples: pd.DataFrame, i: int) -> pd.DataFrame:
    return samples[(samples["round"] == i) & (samples.part == "train")]


def _is_left_with_few(samples: pd.DataFrame, i: int, floor: int) -> bool:
    """Whether a round has less than a third of its photos, or of no majority more than the floor,
    since the rule dropped the others."""
    train = _training_photos(samples, i)
    stay = train.groupby(train.label.astype(int)).kept.agg(["sum", "size"])
    stay = stay.loc[largest_classes(train.label.to_numpy(int))]
    is_floor = (stay["sum"] <= floor).all() and (stay["sum"] < stay["size"]).any()
    return bool(train.kept.mean() < FEW or is_floor)


def _counts(photos: ScoredPhotos) -> pd.Series:
    return photos.table.score.value_counts().sort_index()


def _listed(counts: pd.Series) -> str:
    return "score " + ", ".join(
        f"{score}: {photos}" for score, photos in counts.items()
    )


def _joined(values: Iterable) -> str:
    words = [str(value) for value in values]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))

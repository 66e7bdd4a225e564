"""What a run says of what it was given, in sentences: photos that are there twice, settings that do
nothing. Traded away: what only a person can know, such as whether a setting was meant.

A setting that the photos make void is an error, since its run would be taken for another one. A
setting that another one leaves unread is a notice, since grids share settings among their arms.
"""

from collections.abc import Iterable
from dataclasses import fields

import numpy as np
import pandas as pd

from rsrl_lib.controls import CONTROLS
from rsrl_lib.deciding import is_of_one_scale
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.duplicates import NearDuplicates, in_words
from rsrl_lib.files import InputError
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.recipe import Recipe, Training

OF_STEPS = ("optimiser", "learning_rate", "head_learning_rate", "decay")
OF_STEPS += ("epochs", "steps", "batch", "weight_decay")
"""Settings of `Training` that steps alone read."""
REAL_SCORES = "real mean scores (--mean-column, or votes)"


def notices(
    recipe: Recipe,
    photos: ScoredPhotos,
    digests: np.ndarray | None,
    train: np.ndarray,
    attributes: pd.DataFrame,
) -> list[str]:
    """What a run tells its user before it starts, one sentence each.

    `digests` (n,) are those of the files, `train` the positions of the training photos,
    `attributes` (a row a photo) the targets made of them. Raises `InputError` for weights of
    ambiguous photos that weigh all training photos alike.
    """
    means = photos.table.mean_score.to_numpy()
    sentences = []
    if digests is not None:
        sentences += identical(photos.table, digests)
    sentences += unread(recipe)
    sentences += of_weights(recipe, means[train])
    sentences += of_cut(recipe, means)
    sentences += of_decision(recipe, photos.table.score.to_numpy(), means)
    sentences += of_attributes(recipe.attributes, attributes.iloc[train])
    return sentences


def of_division(
    recipe: Recipe,
    table: pd.DataFrame,
    near: NearDuplicates | None,
    *,
    parts_are_given: bool,
) -> list[str]:
    """How the photos came to their parts, where that is not as usual.

    `table` (photo, label, part and, where known, digest and group) is that of a run's photos.
    """
    sentences = [] if near is None else [in_words(near)]
    if parts_are_given:
        sentences += _of_given_parts(recipe, table, near)
    elif recipe.rare == "train" and recipe.train_share < 1:
        sentences += _of_rare(recipe, table)
    return sentences


def _of_given_parts(
    recipe: Recipe, table: pd.DataFrame, near: NearDuplicates | None
) -> list[str]:
    """Settings that given parts leave without effect, and what lies in two of these parts."""
    default = Recipe()
    unused = []
    for name in ("fold", "train_share", "rare"):
        value = getattr(recipe, name)
        if value != getattr(default, name):
            unused.append(f"{name} {value}")
    sentences = []
    if unused:
        have = "has" if len(unused) == 1 else "have"
        sentences.append(
            f"The part of each photo is given: {', '.join(unused)} {have} no effect."
        )
    sentences += _torn(table, table.digest, "files that are there twice or more")
    if "group" in table:
        sentences += _torn(table, table.group.replace("", None), "groups")
    if near is not None:
        group = pd.Series(near.group, table.index)
        sentences += _torn(table, group.where(group > 0), "groups of near-duplicates")
    return sentences


def _torn(table: pd.DataFrame, group: pd.Series, what: str) -> list[str]:
    """How many groups have photos in two parts or more, and two photos of the first one."""
    parts = table.part.groupby(group).nunique()
    torn = group.isin(parts.index[parts > 1])
    if not torn.any():
        return []
    of_first = table[group == group[torn].iloc[0]].drop_duplicates("part")
    first, second = of_first[:2].itertuples()
    count = int((parts > 1).sum())
    lie = "lies" if count == 1 else "lie"
    return [
        f"Of the {what}, {count} {lie} in two or more of the parts that are given "
        f"(first: {first.photo} in {first.part}, {second.photo} in {second.part}): what is "
        "tested there was partly trained on."
    ]


def _of_rare(recipe: Recipe, table: pd.DataFrame) -> list[str]:
    """Scores that train alone, as they are too rare to be in every part."""
    tested = table.label[table.part == "test"]
    alone = table[~table.label.isin(tested)]
    is_trained = alone.part.groupby(alone.label).agg(
        lambda part: (part == "train").all()
    )
    sentences = []
    for label in is_trained.index[is_trained]:
        photos = (alone.label == label).sum()
        name = f"Score {label}"
        if recipe.levels == "low-high":
            name = f"Level {('low', 'high')[label]}"
        has = "photo" if photos == 1 else "photos"
        sentences.append(
            f"{name} has {photos} {has}, too few for every part: all train, and none validates "
            "or tests."
        )
    return sentences


def identical(table: pd.DataFrame, digests: np.ndarray) -> list[str]:
    """How many of the photos (a table with `photo` and `score`) are the same files.

    They lie in one part, unless the parts are given (column `part`).
    """
    twins = table.assign(digest=digests)
    twins = twins[twins.duplicated("digest", keep=False)]
    if twins.empty:
        return []
    files = twins.groupby("digest", sort=False)
    example = _first_group(files)
    names = " and ".join(example.photo[:2])
    rule = "identical files always lie in one part"
    if "part" in table:
        rule = "they lie in the parts that are given"
    sentences = [
        f"{len(twins)} of {len(table)} photos are {files.ngroups} files under two names or more "
        f"(first: {names}); {rule}."
    ]
    unlike = twins[files.score.transform("nunique") > 1]
    if len(unlike):
        sentences.append(_different_scores(unlike))
    return sentences


def _different_scores(twins: pd.DataFrame) -> str:
    """How many files have two scores or more, and those of the first of them."""
    files = twins.groupby("digest", sort=False)
    example = _first_group(files).drop_duplicates("score")
    each = [f"{row.photo} has {row.score}" for row in example[:2].itertuples()]
    has = "has" if files.ngroups == 1 else "have"
    return (
        f"{files.ngroups} of these files {has} different scores ({' and '.join(each)})."
    )


def _first_group(groups: Iterable[tuple[object, pd.DataFrame]]) -> pd.DataFrame:
    _, group = next(iter(groups))
    return group


def unread(recipe: Recipe) -> list[str]:
    """Settings other than the default that another setting leaves without effect."""
    a, b = recipe.weights_ab
    weighs = a != b
    alike = f"weights_ab {a:g} {b:g} weighs all photos alike"
    scaled = "two equal weights are scaled to 1"
    stop = f"stop is {recipe.stop!r}"
    levels = f"levels is {recipe.levels!r}"
    # Each setting: whether it is read, and why not.
    of_recipe = {
        "cut": (recipe.levels == "low-high", levels),
        "ambiguous": (weighs, alike),
        "weights_ab": (weighs or recipe.literal_weights, scaled),
        "literal_weights": ((a, b) != (1, 1), alike),
        "loss_threshold": (recipe.stop == "loss", stop),
        "patience": (recipe.stop == "patience", stop),
        "decide_for": (recipe.decide != "largest", "decide is 'largest'"),
        "average": (recipe.rounds > 1, "a single round judges alone"),
        "fold": (recipe.train_share < 1, "all photos train"),
        "rare": (recipe.train_share < 1, "all photos train"),
    }
    follows_rule = CONTROLS[recipe.control].follows_rule
    drops = follows_rule and recipe.rounds > 1
    why = "a single round drops nothing"
    if not follows_rule:
        why = f"the control {recipe.control!r} does not drop by the rule"
    of_drop = {field.name: (drops, why) for field in fields(recipe.drop)}
    if recipe.control == "cross-fitted":
        of_drop["judges"] = (False, "the control 'cross-fitted' has judges of its own")
    of_training = {"epochs": (recipe.training.steps is None, "steps is given")}
    if recipe.tune == "head":
        why = "tune is 'head', and the best head needs no steps"
        of_training = dict.fromkeys(OF_STEPS, (False, why))
        of_recipe["first_steps"] = (False, why)
    return [
        *_without_effect(recipe, of_recipe),
        *_without_effect(recipe.drop, of_drop),
        *_without_effect(recipe.training, of_training),
    ]


def _without_effect(
    settings: Recipe | DropRule | Training, rules: dict[str, tuple[bool, str]]
) -> list[str]:
    """Those of the settings that are not read, and other than the default."""
    default = type(settings)()
    sentences = []
    for name, (is_read, why) in rules.items():
        is_default = getattr(settings, name) == getattr(default, name)
        if not is_read and not is_default:
            sentences.append(f"{name} has no effect: {why}.")
    return sentences


def of_weights(recipe: Recipe, means: np.ndarray) -> list[str]:
    """Whether the weights a and b tell training photos of these mean scores (n,) apart."""
    a, b = recipe.weights_ab
    low, high = recipe.ambiguous
    if a == b:
        return []
    is_ambiguous = (low < means) & (means < high)
    between = f"between {low:g} and {high:g}"
    if is_ambiguous.all() or not is_ambiguous.any():
        count = f"{len(means)} training photos"
        reason = f"none of the {count} is"
        if is_ambiguous.all():
            reason = f"all {count} are"
        raise InputError(
            f"Ambiguous and other photos are needed for weights_ab {a:g} {b:g}, {reason} "
            f"ambiguous: mean scores {between} are, and theirs are {_told(means)}; "
            f"give {REAL_SCORES}, or another interval (--ambiguous)."
        )
    if (means % 1).any():
        return []
    return [
        f"All mean scores are whole numbers: ambiguous, {between}, are the {is_ambiguous.sum()} "
        f"training photos scored {_told(means[is_ambiguous])} and no others; "
        f"{REAL_SCORES} tell more."
    ]


def of_cut(recipe: Recipe, means: np.ndarray) -> list[str]:
    """What becomes of photos whose whole scores lie at the cut, of mean scores (n,) of all."""
    at_cut = means == recipe.cut
    is_whole = not (means % 1).any()
    if recipe.levels != "low-high" or not at_cut.any() or not is_whole:
        return []
    return [
        f"All mean scores are whole numbers: the {at_cut.sum()} photos scored {recipe.cut:g}, at "
        f"the cut, count as low; {REAL_SCORES} tell more."
    ]


def of_decision(recipe: Recipe, scores: np.ndarray, means: np.ndarray) -> list[str]:
    """Whether the mean scores (n,) are of another scale than the scores (n,) to be decided for."""
    asks = recipe.decide == "ordinal" and recipe.levels == "scores"
    if not asks or is_of_one_scale(scores, means):
        return []
    return [
        f"Mean scores from {means.min():g} to {means.max():g} are of another scale than the scores "
        f"from {scores.min()} to {scores.max()}, so decide 'ordinal' takes the scores themselves."
    ]


def of_attributes(names: tuple[str, ...], attributes: pd.DataFrame) -> list[str]:
    """Named attributes whose targets are the same for all training photos."""
    sentences = []
    for name in names:
        columns = []
        for column in attributes:
            if name in (column, column.split("=")[0]):
                columns.append(column)
        targets = attributes[columns]
        if (targets.nunique() < 2).all():
            sentences.append(
                f"Nothing can be learned of the attribute {name}: its target is the same for all "
                f"{len(targets)} training photos."
            )
    return sentences


def _told(means: np.ndarray) -> str:
    """The scores where they are whole and few, else their range."""
    scores = np.unique(means)
    is_whole = not (scores % 1).any()
    if is_whole and len(scores) <= 12:
        return ", ".join(f"{score:g}" for score in scores)
    return f"{scores[0]:g} to {scores[-1]:g}"

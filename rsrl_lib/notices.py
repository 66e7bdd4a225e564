"""What a run says of what it was given, in sentences: photos that are there twice, settings that do
nothing. Traded away: what only a person can know, such as whether a setting was meant.

A setting that the photos make void is an error, since its run would be taken for another one. A
setting that another one leaves unread is a notice, since grids share settings among their arms.
"""

from dataclasses import fields

import numpy as np
import pandas as pd

from rsrl_lib.controls import CONTROLS
from rsrl_lib.files import InputError
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.recipe import Recipe

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
    table = photos.table
    said = [] if digests is None else identical(table, digests)
    said += unread(recipe)
    said += of_weights(recipe, table.mean_score.to_numpy()[train])
    said += of_cut(recipe, table.mean_score.to_numpy())
    return said + of_attributes(recipe.attributes, attributes.iloc[train])


def identical(table: pd.DataFrame, digests: np.ndarray) -> list[str]:
    """How many of the photos (a table with `photo` and `score`) are the same files."""
    twins = table.assign(digest=digests)
    twins = twins[twins.duplicated("digest", keep=False)]
    if twins.empty:
        return []
    files = twins.groupby("digest", sort=False)
    first = " and ".join(next(iter(files))[1].photo[:2])
    said = [
        f"{len(twins)} of {len(table)} photos are {files.ngroups} files under two names or more "
        f"(first: {first}); identical files always lie in one part."
    ]
    unlike = twins[files.score.transform("nunique") > 1]
    if len(unlike):
        own = next(iter(unlike.groupby("digest", sort=False)))[1].drop_duplicates(
            "score"
        )
        told = " and ".join(
            f"{row.photo} has {row.score}" for row in own[:2].itertuples()
        )
        count = unlike.digest.nunique()
        has = "has" if count == 1 else "have"
        said.append(f"{count} of these files {has} different scores ({told}).")
    return said


def unread(recipe: Recipe) -> list[str]:
    """Settings other than the default that another setting leaves without effect."""
    a, b = recipe.weights_ab
    alike = f"weights_ab {a:g} {b:g} weighs all photos alike"
    drops = "a single round drops nothing"
    if not CONTROLS[recipe.control].follows_rule:
        drops = f"the control {recipe.control!r} does not drop by the rule"
    is_dropping = recipe.rounds > 1 and CONTROLS[recipe.control].follows_rule
    of_recipe = {
        "cut": (recipe.levels == "low-high", f"levels is {recipe.levels!r}"),
        "ambiguous": (a != b, alike),
        "weights_ab": (
            a != b or recipe.literal_weights,
            "two equal weights are scaled to 1",
        ),
        "literal_weights": ((a, b) != (1, 1), alike),
        "loss_threshold": (recipe.stop == "loss", f"stop is {recipe.stop!r}"),
        "patience": (recipe.stop == "patience", f"stop is {recipe.stop!r}"),
    }
    of_drop = {field.name: (is_dropping, drops) for field in fields(recipe.drop)}
    of_training = {"epochs": (recipe.training.steps is None, "steps is given")}
    said = []
    pairs = (
        (recipe, of_recipe),
        (recipe.drop, of_drop),
        (recipe.training, of_training),
    )
    for settings, rules in pairs:
        for name, (is_read, why) in rules.items():
            if not is_read and getattr(settings, name) != getattr(
                type(settings)(), name
            ):
                said.append(f"{name} has no effect: {why}.")
    return said


def of_weights(recipe: Recipe, means: np.ndarray) -> list[str]:
    """Whether the weights a and b tell training photos of these mean scores (n,) apart."""
    (a, b), (low, high) = recipe.weights_ab, recipe.ambiguous
    if a == b:
        return []
    inside = (low < means) & (means < high)
    between = f"between {low:g} and {high:g}"
    if inside.all() or not inside.any():
        count = f"{len(means)} training photos"
        found = f"all {count} are" if inside.all() else f"none of the {count} is"
        raise InputError(
            f"Ambiguous and other photos are needed for weights_ab {a:g} {b:g}, {found} ambiguous: "
            f"mean scores {between} are, and theirs are {_told(means)}; give {REAL_SCORES}, or "
            "another interval (--ambiguous)."
        )
    if (means % 1).any():
        return []
    return [
        f"All mean scores are whole numbers: ambiguous, {between}, are the {inside.sum()} training "
        f"photos scored {_told(means[inside])} and no others; {REAL_SCORES} tell more."
    ]


def of_cut(recipe: Recipe, means: np.ndarray) -> list[str]:
    """What becomes of photos whose whole scores lie at the cut, of mean scores (n,) of all."""
    at = means == recipe.cut
    if recipe.levels != "low-high" or not at.any() or (means % 1).any():
        return []
    return [
        f"All mean scores are whole numbers: the {at.sum()} photos scored {recipe.cut:g}, at the "
        f"cut, count as low; {REAL_SCORES} tell more."
    ]


def of_attributes(names: tuple[str, ...], attributes: pd.DataFrame) -> list[str]:
    """Named attributes whose targets are the same for all training photos."""
    said = []
    for name in names:
        own = attributes[[c for c in attributes if name in (c, c.split("=")[0])]]
        if (own.nunique() < 2).all():
            said.append(
                f"Nothing can be learned of the attribute {name}: its target is the same for all "
                f"{len(own)} training photos."
            )
    return said


def _told(means: np.ndarray) -> str:
    """The scores where they are whole and few, else their range."""
    scores = np.unique(means)
    if (scores % 1).any() or len(scores) > 12:
        return f"{scores[0]:g} to {scores[-1]:g}"
    return ", ".join(f"{score:g}" for score in scores)

"""What a chapter works on: photos and a recipe, its own or those of a run that you name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rsrl_lib.drawing import glassbox
from rsrl_lib.files import InputError
from rsrl_lib.papers import RETRAINING, beside, recipe_of
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.recipe import Recipe, recipe_from, settings_of
from rsrl_lib.runs import Run
from rsrl_lib.sources import read_photos

SHIPPED = {"backbone": "squeezenet1_1", "weights": "starter"}
"""What a chapter begins from where nothing is said: a network that need not be downloaded. All
else is as it is on the command line."""


def run_named(folder: str) -> Run | None:
    """The run of a folder that a chapter was given, if it has a finished round."""
    run = Run(Path(folder))
    return run if folder and run.has_begun else None


def photos_in_chapter(
    photos: str,
    scores: str,
    source: str,
    options: Mapping[str, object],
    *,
    count: int,
    seed: int,
    run: Run | None = None,
) -> ScoredPhotos:
    """Those of a folder, if it is given; or those of a run; else so many drawn ones.

    Raises `InputError` where they cannot be read, or a run has others.
    """
    if photos:
        scored = read_photos(source, photos, scores or None, **options)
        return scored if run is None else run.own_photos(scored)
    if run is not None and run.info.get("photos"):
        return run.photos()
    drawn = glassbox.open_set(count, seed)
    return drawn if run is None else run.own_photos(drawn)


def recipe_in_chapter(
    paper: str,
    given: Mapping[str, object],
    *,
    run: Run | None = None,
    small: Mapping[str, object] = SHIPPED,
    known: Sequence[str] = RETRAINING,
) -> Recipe:
    """The recipe of a run; or of a document by its name; else that of the command line, but for
    the `small` settings. Those of `given` that are not None win.

    `known` are the documents that the chapter is of; `InputError` for another one.
    """
    asked = {name: value for name, value in given.items() if value is not None}
    if paper and paper not in known:
        raise InputError(
            f"This chapter takes the paper {' or '.join(known)}, not {paper!r}; give one of "
            "these, or none."
        )
    if run is not None:
        of_run = settings_of(run.recipe)
        if paper:
            asked["paper"] = paper
        return recipe_from({**beside(of_run, asked), **asked})
    if paper:
        return recipe_of(paper, **asked)
    return recipe_from({**beside(small, asked), **asked})

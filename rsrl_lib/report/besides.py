"""What a run is compared with: the commonest score, the same run that drops nothing, and the best
head on the network that was not trained.

The last two are made here, on the run's own division of its photos, and kept in its folder:
`keep_all` is a run like any other, `frozen_head.csv` what the head answers. A run that trains the
head alone needs only the latter, as without dropping it is that head.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import pandas as pd

from rsrl_lib import pixels
from rsrl_lib.backbones import side_of
from rsrl_lib.comparing.comparisons import drops_nothing
from rsrl_lib.controls import CONTROLS
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.files import InputError, in_words, replacing
from rsrl_lib.origins import open_photos
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.pixels import Pixels
from rsrl_lib.reading.tables import read_ours
from rsrl_lib.recipe import OWN, Recipe
from rsrl_lib.report.answers import answers_of, commonest, compared, of_run
from rsrl_lib.rounds import finished, repeat
from rsrl_lib.runs import Run, open_run

KeepAll = Literal["auto", "yes", "no"]
SOON = 600
"""Seconds that keeping all photos may take without being asked for."""
NAMES = {
    "commonest": "always the commonest score",
    "keep_all": "keeping all photos",
    "frozen": "the frozen head",
}


@dataclass(frozen=True)
class Found:
    """The photos of a run, as far as they are still to be found."""

    paths: dict[str, str] = field(default_factory=dict)
    """Of each photo by name, where there is a file."""
    scored: ScoredPhotos | None = None
    """As their reader reads them today; None where it cannot."""
    reason: str = ""
    """Why not."""


@dataclass(frozen=True)
class Beside:
    """What else answers the test photos, or why it does not."""

    answers: pd.Series | None
    """Assigned score by photo."""
    sentence: str
    """What it is, or why it is missing and what to do."""


def drops(run: Run) -> bool:
    """Whether a run leaves photos out: by a rule, at random, or as wrongly labelled."""
    recipe = run.recipe
    if recipe.control == OWN:  # what it does, its Python program knows
        return len(run.dropped) > 0
    if recipe.control == "confident-learning":
        return True
    follows_rule = CONTROLS[recipe.control].follows_rule
    return follows_rule and not drops_nothing(recipe) and recipe.rounds > 1


def find_photos(run: Run, given: Mapping[str, object] | None = None) -> Found:
    """Look for a run's photos where they were, or where they are `given` to be: source, folder,
    scores and options of their reader, of which the folder may stand alone."""
    info = run.info
    made = info.get("provenance", {})  # runs of before have none, nor photos
    origin = given or info.get("photos")
    folder = (given or {}).get("folder") or made.get("folder")
    scored = None
    reason = (
        "run.json does not say where its photos are: name them by --photos and --scores"
    )
    has_scores = origin and (given is None or _names_scores(given))
    if has_scores:
        try:
            scored = open_photos(origin)
        except (InputError, TypeError) as error:
            reason = str(error).rstrip(".")
    elif given:
        reason = "--photos alone shows them: --scores is needed to train on them"
    paths = {}
    if scored is not None:
        paths = dict(zip(scored.table.photo, scored.table.path, strict=True))
    elif folder is not None:
        paths = {photo: str(Path(folder, photo)) for photo in run.split.photo}
    there = {photo: path for photo, path in paths.items() if Path(path).is_file()}
    return Found(there, scored, "" if scored is not None else reason)


def _names_scores(given: Mapping[str, object]) -> bool:
    return given["source"] != "folder" or given.get("scores") is not None


def divided_as_then(run: Run, found: Found, cache: Path) -> tuple[ScoredPhotos, Pixels]:
    """The run's photos, its labels and its parts, and their pixels; `InputError` where they are not
    those it was made with."""
    if found.scored is None:
        raise InputError(f"{found.reason}.")
    split = run.split
    recipe = run.recipe
    place = pd.Index(found.scored.table.photo).get_indexer(split.photo)
    missing = split.photo[place < 0]
    if len(missing):
        raise InputError(
            f"{len(missing)} photos of {run.folder} are not among those that were found (first: "
            f"{missing.iloc[0]}); give the photos it was made with by --photos and --scores."
        )
    scored = found.scored.select(place)
    how = {"cache": cache, "side": side_of(recipe.backbone)}
    decoded, _ = pixels.decode(scored.table, **how)
    for name, now in (("score", scored.table.score), ("digest", decoded.digests)):
        differs = split[name].to_numpy() != np.asarray(now)
        if differs.any():
            what = "scores" if name == "score" else "files"
            raise InputError(
                f"The {what} of {differs.sum()} photos are others than those {run.folder} was "
                f"made with (first: {split.photo[differs].iloc[0]}); give those by --photos and "
                "--scores."
            )
    table = scored.table.assign(part=split.part.to_numpy())
    if recipe.levels == "scores":
        table["score"] = split.label.to_numpy()  # rare ones are merged already
    return replace(scored, table=table), decoded


def plain(recipe: Recipe, **changes: object) -> Recipe:
    """The same recipe that drops nothing, on parts that are given."""
    given_parts = {"resplit": "never", "train_share": 0.64, "rare": "merge", "fold": 0}
    return replace(
        recipe,
        drop=DropRule(k=(0.0,)),
        control="none",
        paper=None,
        **{**given_parts, **changes},
    )


def frozen_head(run: Run, found: Found, cache: Path) -> Beside:
    """What the best head on the network that was not trained answers; made if it is not there."""
    path = run.folder / "frozen_head.csv"
    recipe = run.recipe
    sentence = (
        "The frozen head: the last layer alone, fitted to all training photos of this run on what "
        "the network sees before it is trained."
    )
    if recipe.tune == "head":
        sentence += " This run trains no more than that, so it is also what keeping all photos is."
    if path.exists():
        return Beside(read_ours(path).set_index("photo").assigned, sentence)
    if recipe.backbone == OWN:
        return Beside(
            None,
            "The frozen head is missing: a network of your own cannot be opened here.",
        )
    changes = {"tune": "head", "rounds": 1, "choose": "last", "stop": "rounds"}
    changes |= {"new_head": False, "head_bias": True, "average": 1, "first_steps": None}
    try:
        photos, decoded = divided_as_then(run, found, cache)
        with TemporaryDirectory(prefix="frozen_head_", dir=run.folder) as folder:
            made = repeat(
                photos, decoded, Path(folder) / "run", plain(recipe, **changes)
            )
            answers = _same_photos(of_run(made), run)[["photo", "assigned"]]
    except InputError as error:
        return Beside(None, f"The frozen head is missing: {error}")
    with replacing(path) as partial:
        answers.to_csv(partial, index=False)
    return Beside(answers.set_index("photo").assigned, sentence)


def keep_all(
    run: Run,
    found: Found,
    cache: Path,
    ask: KeepAll = "auto",
    *,
    beside: Path | None = None,
    command: str = "rsrl report",
    say: Callable[[str], object] = lambda sentence: None,
) -> Beside:
    """What the same run answers that drops nothing: one that is given, one that was made here
    before, or a new one where that is asked for or takes at most ten minutes."""
    if beside is not None:
        return _given(run, beside)
    recipe = run.recipe
    folder = run.folder / "keep_all"
    wanted = plain(recipe)
    seconds = expected_seconds(run)
    made = Run(folder)
    is_there = made.has_begun and finished(made.rounds, wanted)
    again = f"{command} {run.folder} --keep-all yes"
    if not is_there:
        if ask == "no":
            return Beside(
                None,
                f"Keeping all photos was left out, as you asked. {again} trains it.",
            )
        if ask == "auto" and (seconds is None or seconds > SOON):
            return Beside(
                None,
                f"Keeping all photos was not trained, as it takes {in_time(seconds)}. "
                f"{again} trains it; a run that you have is taken by --beside.",
            )
        say(
            f"Keeping all photos is trained beside it, in {folder}: {in_time(seconds)}. It can be "
            "stopped and goes on."
        )
    try:
        if not is_there:
            photos, decoded = divided_as_then(run, found, cache)
            made = repeat(photos, decoded, folder, wanted, say=say)
        answers = _same_photos(of_run(made), run).set_index("photo").assigned
    except InputError as error:
        return Beside(None, f"Keeping all photos is missing: {error}")
    return Beside(
        answers,
        f"Keeping all photos: the same recipe without dropping, in {folder.name}; its round "
        f"{made.chosen} was chosen in the same way.",
    )


def _same_photos(answers: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Answers as they are; `InputError` where they are to other photos or labels than the run's."""
    columns = ["photo", "digest", "label"]
    then = of_run(run)[columns].sort_values("photo", ignore_index=True)
    now = answers[columns].sort_values("photo", ignore_index=True)
    if not now.equals(then):
        raise InputError(
            f"The mean scores are others than those {run.folder} was made with; give those by "
            "--photos and --scores."
        )
    return answers


def _given(run: Run, beside: Path) -> Beside:
    """Another run that drops nothing; `InputError` where it drops, or tests other photos."""
    other = open_run(beside)
    if drops(other):
        raise InputError(
            f"--beside takes a run that keeps all photos, and {beside} drops some; give another."
        )
    both = compared(answers_of(run.folder), answers_of(beside)).both
    if len(both) < len(of_run(run)):
        raise InputError(
            f"{beside} tests only {len(both)} of the photos that {run.folder} tests; give one with "
            "the same --fold and --seed."
        )
    answers = both.set_index("photo").assigned_b
    return Beside(
        answers, f"Keeping all photos: the run {beside}, round {other.chosen}."
    )


def expected_seconds(run: Run) -> float | None:
    """About how long the run takes that drops nothing; None where it is not known.

    It is the time from the run's begin to its last network, longer by as many photos as it learned
    fewer. Where a run was interrupted, that is too long.
    """
    begun = run.info.get("provenance", {}).get("begun")
    if begun is None or "continued" in run.info["provenance"]:
        return None
    started = datetime.fromisoformat(begun).timestamp()
    taken = run.last.stat().st_mtime - started
    if taken < 0:
        return None  # a copy, or another clock
    kept = run.rounds.kept
    train = (run.split.part == "train").sum()
    return taken * train * len(kept) / kept.sum()


def in_time(seconds: float | None) -> str:
    """A length of time in words, of which nobody may know."""
    if seconds is None:
        return "as long as the run itself"
    return f"about {in_words(seconds)}"


def always_commonest(run: Run) -> Beside:
    """The commonest score of the training photos, for every photo."""
    photos = run.split.photo[run.split.part == "test"]
    answers = pd.Series(commonest(run), photos)
    return Beside(answers, "Always the commonest score of the training photos.")

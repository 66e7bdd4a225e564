"""The grid of a sweep: one small file that says which arms, folds and seeds are trained.

    [photos]                       # as for `read_photos`; or glassbox = {count = 700, seed = 0}
    folder = "oasis/photos"
    scores = "oasis/photos.csv"
    options = {mean_column = "mean_score", votes = "oasis/votes.csv"}
    [grid]
    dataset = "OASIS"              # a name for the table
    folds = [0, 1, 2, 3, 4]
    seeds = [0, 1, 2]
    labels = "mean"                # or "single_vote": one rater's vote a photo, drawn by the seed
    [common]                       # what every arm shares: fields of Recipe, DropRule and Training
    backbone = "squeezenet1_0"
    [arms."keep training"]         # what is particular to an arm
    k = [0.0]
    [arms."RSRL-b"]                # a document's protocol, and what deviates from it
    paper = "rsrl-b"
    backbone = "squeezenet1_0"
    [arms.own-class]
    each_k = [0.9, 0.99]           # an arm for each K

Whatever stands in it is checked here, before a photo is read: names, types, ranges.
"""

import difflib
import hashlib
import inspect
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal, get_type_hints

from rsrl_lib.controls import CONTROLS
from rsrl_lib.drawing.glassbox import open_set
from rsrl_lib.drop_rules import says_nothing_of_k
from rsrl_lib.files import InputError, reading
from rsrl_lib.papers import beside, recipe_of
from rsrl_lib.reading.texts import read_text
from rsrl_lib.recipe import FOLDS, KIND_OF, Recipe, names_of, recipe_from
from rsrl_lib.settings import check_type, is_of_type, told
from rsrl_lib.sources import FILES, READERS

MOST_OF_A_NAME = 100
"""Letters that an arm may have; its folder bears its name."""
KEYS = ["dataset", "labels", "seed", "fold", "arm"]
UNNAMED = {"fold", "seed"}
"""Parts of a recipe that an arm does not give."""
PATHS = {"folder", "scores", *FILES}
FIELDS = {name: kind for name, kind in KIND_OF.items() if name not in UNNAMED}
PHOTOS = {
    "glassbox": dict,
    "folder": str,
    "scores": str,
    "source": Literal[tuple(READERS)],
    "options": dict,
}
PLACES = {
    "dataset": str,
    "labels": Literal["mean", "single_vote"],
    "folds": tuple[int, ...],
    "seeds": tuple[int, ...],
}


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: its place in the grid, and all that it needs to know."""

    dataset: str
    labels: str
    arm: str
    fold: int
    seed: int
    recipe: Recipe
    source: str
    """The grid's table `photos` as JSON."""
    id: str
    """Hash of all that the grid says of the cell, with paths as they stand there."""

    @property
    def place(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in KEYS}

    @property
    def name(self) -> str:
        return name_of(self.place)


def name_of(place: Mapping[str, object]) -> str:
    """Name of a cell by its place, for its folder."""
    joined = "-".join(str(place[name]) for name in KEYS)
    return re.sub(r"[^\w.=-]", "_", joined)


def read_grid(path: Path, *, renamed: Mapping[str, str] | None = None) -> list[Cell]:
    """Cells of a grid file, seed by seed and fold by fold; `InputError` for what it cannot mean.

    Arms that were `renamed` in its table since have the new names.
    """
    text = read_text(path, "a grid of a sweep, which is TOML in UTF-8")
    with reading(path, "grid of a sweep", "correct it"):
        grid = tomllib.loads(text)
        _check_tables(path, grid)
        places = {"dataset": path.stem, "folds": [0], "seeds": [0], "labels": "mean"}
        places |= grid.get("grid", {})
        _check_places(path, places)
        _check_photos(path, grid["photos"])
        _check_folds(path, grid["photos"], places["folds"])
        return _cells(path, grid, places, renamed or {})


def _cells(
    path: Path, grid: dict[str, dict], places: dict, renamed: Mapping[str, str]
) -> list[Cell]:
    photos = grid["photos"]
    common = grid.get("common", {})
    dataset = places["dataset"]
    labels = places["labels"]
    as_written = json.dumps(photos)
    _make_absolute(photos, path.parent)
    source = json.dumps(photos)
    _check_fields(path, "[common]", common)
    arms = list(_arms(path, grid["arms"]))

    cells = []
    for seed, fold, (arm, own) in product(places["seeds"], places["folds"], arms):
        arm = renamed.get(arm, arm)
        settings = beside(common, own) | own
        recipe = _recipe(path, arm, settings, common)
        if labels == "single_vote" and recipe.levels != "scores":
            raise InputError(
                f"{path}, arm {arm!r}: single votes go with levels = 'scores' alone."
            )
        if recipe.train_share == 1:
            raise InputError(
                f"{path}, arm {arm!r}: a sweep is measured on test photos, and with train_share 1 "
                "no photo tests; give the arm train_share = 0.8."
            )
        cell = Cell(
            dataset=dataset,
            labels=labels,
            arm=arm,
            fold=fold,
            seed=seed,
            recipe=replace(recipe, fold=fold, seed=seed),
            source=source,
            id=_hash(
                [as_written, dataset, labels, arm, fold, seed, *_said(recipe, settings)]
            ),
        )
        cells.append(cell)
    if len({cell.name for cell in cells}) < len(cells):
        raise InputError(
            f"{path}: names of arms must differ in their letters or digits."
        )
    return cells


def _make_absolute(photos: dict, folder: Path) -> None:
    """Name the files of the table `photos` by whole paths, no longer from the grid's folder."""
    for table in (photos, photos.get("options", {})):
        for name in table.keys() & PATHS:
            absolute = (folder / table[name]).resolve()
            table[name] = str(absolute)


def _said(recipe: Recipe, settings: dict) -> list:
    """What tells an arm from others: its settings as they are written.

    An arm that says nothing of K once had K = 0.9 and now keeps two thirds of the photos; it must
    not be taken for one that was trained before.
    """
    drops = CONTROLS[recipe.control].follows_rule and recipe.rounds > 1
    if says_nothing_of_k(recipe.drop) and drops:
        return [settings, "two thirds are kept"]
    return [settings]


def _hash(identity: list) -> str:
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _arms(path: Path, arms: dict[str, dict]) -> Iterator[tuple[str, dict]]:
    """Name and own settings of each arm; `each_k` makes several."""
    for name, arm in arms.items():
        where = f"arm {name!r}"
        settings = {key: value for key, value in arm.items() if key != "each_k"}
        _check_fields(path, where, settings)
        if "each_k" not in arm:
            yield name, settings
            continue
        each_k = arm["each_k"]
        _check_type(path, where, "each_k", each_k, tuple[float, ...])
        if not each_k:
            raise InputError(f"{path}, {where}: each_k needs a K or more, it is empty.")
        for k in each_k:
            yield f"{name} K={k:g}", settings | {"k": [k]}


def _recipe(path: Path, arm: str, settings: dict, common: dict) -> Recipe:
    """A recipe from fields of Recipe, DropRule and Training, by name."""
    try:
        return _filled_in(path, settings)
    except InputError as error:
        where = f"arm {arm!r}"
        try:
            _filled_in(path, common)
        except InputError as of_common:
            if str(of_common) == str(error):
                where = "[common]"
        raise InputError(f"{path}, {where}: {error}") from error


def _filled_in(path: Path, settings: dict) -> Recipe:
    given = dict(settings)
    if "weights" in given:
        weights = names_of(given["weights"])
        given["weights"] = tuple(_of_grid(path, each) for each in weights)
    paper = given.pop("paper", None)
    return recipe_of(paper, **given) if paper else recipe_from(given)


def _of_grid(path: Path, weights: str) -> str:
    """Weights as they are named, files by whole paths from the grid's folder."""
    is_file = "." in weights
    return str((path.parent / weights).resolve()) if is_file else weights


def _check_tables(path: Path, grid: dict) -> None:
    """`InputError` unless the tables of a grid are known ones, and tables."""
    _check_known(path, "", grid, ("photos", "grid", "common", "arms"))
    for name, table in grid.items():
        if not isinstance(table, dict):
            raise InputError(
                f"{path}: {name} must be a table [{name}], not {told(table)}."
            )
    for name in ("photos", "arms"):
        if not grid.get(name):
            raise InputError(
                f"{path} needs a table [{name}]; see rsrl_lib/comparing/grids.py."
            )
    for name, arm in grid["arms"].items():
        check_arm(name)
        if not isinstance(arm, dict):
            raise InputError(
                f"{path}: the arm {name} must be a table [arms.{name}], not {told(arm)}; "
                "fields of all arms stand in [common]."
            )


def check_arm(name: str) -> None:
    """`InputError` unless an arm can be called so: folders and rows of tables bear its name."""
    is_in_one_line = name == name.strip() and name.isprintable()
    has_letter = any(letter.isalnum() for letter in name)
    if not (is_in_one_line and has_letter and len(name) <= MOST_OF_A_NAME):
        raise InputError(
            f"{name[:80]!r} is no name of an arm; give one in a line, with letters or digits, of "
            f"at most {MOST_OF_A_NAME}."
        )


def _check_places(path: Path, places: dict) -> None:
    _check_known(path, "[grid]", places, PLACES)
    for name, kind in PLACES.items():
        given = places[name]
        if name == "labels" and given not in ("mean", "single_vote"):
            raise InputError(
                f"{path}: labels are 'mean' or 'single_vote', not {given!r}."
            )
        if name == "dataset" and not (isinstance(given, str) and given):
            raise InputError(f"{path}: dataset is a name in quotes, not {given!r}.")
        if not is_of_type(given, kind) or not given:
            raise InputError(
                f"{path}: {name} are a list such as [0, 1], not {told(given)}."
            )
        if isinstance(given, list):
            _check_numbers(path, name, given)


def _check_numbers(path: Path, name: str, given: list[int]) -> None:
    """`InputError` unless folds or seeds lie in their range, each once."""
    most = FOLDS - 1 if name == "folds" else 2**32 - 1
    for number in given:
        if not 0 <= number <= most:
            raise InputError(f"{path}: {name} must lie in 0..{most}, not {number}.")
    different = set(given)
    if len(different) < len(given):
        raise InputError(f"{path}: {name} are each given once, not {told(given)}.")


def _check_photos(path: Path, photos: dict) -> None:
    """`InputError` unless photos are drawn ones, or of a folder by options that its reader has."""
    _check_known(path, "[photos]", photos, PHOTOS)
    for name, given in photos.items():
        _check_type(path, "[photos]", name, given, PHOTOS[name])
    if "glassbox" in photos:
        _check_drawn(path, photos)
    else:
        _check_folder(path, photos)


def _check_drawn(path: Path, photos: dict) -> None:
    _check_call(path, "glassbox of [photos]", photos["glassbox"], open_set)
    others = sorted(photos.keys() - {"glassbox"})
    if others:
        raise InputError(
            f"{path}, [photos]: either drawn photos or a folder; "
            f"found is {others[0]} beside glassbox."
        )


def _check_folder(path: Path, photos: dict) -> None:
    source = photos.get("source", "folder")
    needed = ["folder"]
    if source == "folder":
        needed.append("scores")
    for name in needed:
        if name not in photos:
            raise InputError(
                f"{path}, [photos] needs {name}, a path from the grid's folder."
            )
    if source != "folder" and "scores" in photos:
        raise InputError(
            f"{path}, [photos]: {source} is read as published; leave scores out."
        )
    given = {"folder": "", "scores": ""} | photos.get("options", {})
    if source != "folder":
        del given["scores"]
    _check_call(path, "options of [photos]", given, READERS[source])


def _check_folds(path: Path, photos: dict, folds: list[int]) -> None:
    """`InputError` where given parts would make all folds the same."""
    options = photos.get("options", {})
    given = sorted(options.keys() & {"part_column", "parts"})
    if given and list(folds) != [0]:
        raise InputError(
            f"{path}: the part of each photo is given ({given[0]}), so that all folds "
            f"{list(folds)} would be the same; leave folds out."
        )


def _check_call(path: Path, where: str, given: dict, function: Callable) -> None:
    """`InputError` unless a function can be called with some values by name."""
    kinds = get_type_hints(function)
    parameters = inspect.signature(function).parameters
    _check_known(path, where, given, parameters)
    for name, parameter in parameters.items():
        if name not in given and parameter.default is inspect.Parameter.empty:
            raise InputError(f"{path}, {where} needs {name}.")
    for name, value in given.items():
        _check_type(path, where, name, value, kinds[name])


def _check_fields(path: Path, where: str, settings: dict) -> None:
    """`InputError` unless all settings are fields of a recipe, of their types."""
    _check_known(path, where, settings, FIELDS)
    for name, value in settings.items():
        kinds = get_type_hints(KIND_OF[name])
        _check_type(path, where, name, value, kinds[name])


def _check_type(path: Path, where: str, name: str, given: object, kind: object) -> None:
    try:
        check_type(name, given, kind)
    except InputError as error:
        raise InputError(f"{path}, {where}: {error}") from error


def _check_known(
    path: Path, where: str, given: Iterable[str], known: Iterable[str]
) -> None:
    known = list(known)
    for name in given:
        if name in known:
            continue
        if name.removesuffix("s") in ("fold", "seed"):
            raise InputError(
                f"{path}: {name!r} is the grid's; give a list of them in [grid]."
            )
        nearest = difflib.get_close_matches(name, known, 1, cutoff=0)[0]
        place = f"{path}, {where}" if where else str(path)
        raise InputError(f"{place}: there is no {name!r}; did you mean {nearest!r}?")

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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Literal, get_type_hints

from rsrl_lib.drawing.glassbox import open_set
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.files import InputError, reading
from rsrl_lib.reading.texts import read_text
from rsrl_lib.recipe import FOLDS, Recipe, Training
from rsrl_lib.settings import check_type, is_of_type, told
from rsrl_lib.sources import READERS

KEYS = ["dataset", "labels", "seed", "fold", "arm"]
THRESHOLDS = {"k", "k_schedule", "keep_share"}
UNNAMED = {
    "drop",
    "training",
    "fold",
    "seed",
}  # parts of a recipe that an arm does not give
PATHS = {"folder", "scores", "votes"}
KINDS = (Recipe, DropRule, Training)
KIND_OF = {field.name: kind for kind in KINDS for field in fields(kind)}
KIND_OF = {name: kind for name, kind in KIND_OF.items() if name not in UNNAMED}
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
        return re.sub(r"[^\w.=-]", "_", "-".join(map(str, self.place.values())))


def read_grid(path: Path) -> list[Cell]:
    """Cells of a grid file, seed by seed and fold by fold; `InputError` for what it cannot mean."""
    text = read_text(path, "a grid of a sweep, which is TOML in UTF-8")
    with reading(path, "grid of a sweep", "correct it"):
        grid = tomllib.loads(text)
        _check_tables(path, grid)
        places = {"dataset": path.stem, "folds": [0], "seeds": [0], "labels": "mean"}
        places |= grid.get("grid", {})
        _check_places(path, places)
        _check_photos(path, grid["photos"])
        return _cells(path, grid, places)


def _cells(path: Path, grid: dict[str, dict], places: dict) -> list[Cell]:
    photos, common = grid["photos"], grid.get("common", {})
    asked = json.dumps(photos)
    for table in (photos, photos.get("options", {})):
        for name in table.keys() & PATHS:
            table[name] = str((path.parent / table[name]).resolve())
    source = json.dumps(photos)
    labels, dataset = places["labels"], places["dataset"]
    _check_fields(path, "[common]", common)
    arms = list(_arms(path, grid["arms"]))
    cells = []
    for seed, fold, (arm, own) in product(places["seeds"], places["folds"], arms):
        values = _with_common(common, own)
        recipe = _recipe(path, arm, values, common)
        if labels == "single_vote" and recipe.levels != "scores":
            raise InputError(
                f"{path}, arm {arm!r}: single votes go with levels = 'scores' alone."
            )
        recipe = replace(recipe, fold=fold, seed=seed)
        said = json.dumps(
            [asked, dataset, labels, arm, fold, seed, values], sort_keys=True
        )
        identity = hashlib.sha256(said.encode()).hexdigest()[:12]
        cells.append(Cell(dataset, labels, arm, fold, seed, recipe, source, identity))
    if len({cell.name for cell in cells}) < len(cells):
        raise InputError(
            f"{path}: names of arms must differ in their letters or digits."
        )
    return cells


def _arms(path: Path, arms: dict[str, dict]) -> Iterator[tuple[str, dict]]:
    """Name and own settings of each arm; `each_k` makes several."""
    for name, own in arms.items():
        where = f"arm {name!r}"
        values = {key: value for key, value in own.items() if key != "each_k"}
        _check_fields(path, where, values)
        if "each_k" not in own:
            yield name, values
            continue
        _check_type(path, where, "each_k", own["each_k"], tuple[float, ...])
        if not own["each_k"]:
            raise InputError(f"{path}, {where}: each_k needs a K or more, it is empty.")
        for k in own["each_k"]:
            yield f"{name} K={k:g}", values | {"k": [k]}


def _with_common(common: dict, own: dict) -> dict:
    """Settings of an arm: its own thresholds take the place of the common ones, of any kind."""
    if own.keys() & THRESHOLDS:
        common = {
            name: value for name, value in common.items() if name not in THRESHOLDS
        }
    return common | own


def _recipe(path: Path, arm: str, values: dict, common: dict) -> Recipe:
    """A recipe from fields of Recipe, DropRule and Training, by name."""
    try:
        return _filled_in(path, values)
    except InputError as error:
        where = f"arm {arm!r}"
        try:
            _filled_in(path, common)
        except InputError as of_common:
            if str(of_common) == str(error):
                where = "[common]"
        raise InputError(f"{path}, {where}: {error}") from error


def _filled_in(path: Path, values: dict) -> Recipe:
    own = {kind: {} for kind in KINDS}
    for name, value in values.items():
        own[KIND_OF[name]][name] = tuple(value) if isinstance(value, list) else value
    weights = own[Recipe].get("weights", "")
    if "." in weights:  # a file, beside the grid
        own[Recipe]["weights"] = str((path.parent / weights).resolve())
    return Recipe(
        drop=DropRule(**own[DropRule]),
        training=Training(**own[Training]),
        **own[Recipe],
    )


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
        if not isinstance(arm, dict):
            found = (
                f"{path}: the arm {name} must be a table [arms.{name}], not {told(arm)}"
            )
            raise InputError(f"{found}; fields of all arms stand in [common].")


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
            found = told(given)
            raise InputError(f"{path}: {name} are a list such as [0, 1], not {found}.")
        if isinstance(given, list):
            _check_numbers(path, name, given)


def _check_numbers(path: Path, name: str, given: list[int]) -> None:
    """`InputError` unless folds or seeds lie in their range, each once."""
    most = FOLDS - 1 if name == "folds" else 2**32 - 1
    for number in given:
        if not 0 <= number <= most:
            raise InputError(f"{path}: {name} must lie in 0..{most}, not {number}.")
    if len({*given}) < len(given):
        raise InputError(f"{path}: {name} are each given once, not {told(given)}.")


def _check_photos(path: Path, photos: dict) -> None:
    """`InputError` unless photos are drawn ones, or of a folder by options that its reader has."""
    _check_known(path, "[photos]", photos, PHOTOS)
    for name, given in photos.items():
        _check_type(path, "[photos]", name, given, PHOTOS[name])
    if "glassbox" in photos:
        _check_call(path, "glassbox of [photos]", photos["glassbox"], open_set)
        if others := sorted(photos.keys() - {"glassbox"}):
            found = f"found is {others[0]} beside glassbox"
            raise InputError(
                f"{path}, [photos]: either drawn photos or a folder; {found}."
            )
        return
    source = photos.get("source", "folder")
    for name in ("folder", "scores") if source == "folder" else ("folder",):
        if name not in photos:
            raise InputError(
                f"{path}, [photos] needs {name}, a path from the grid's folder."
            )
    if source != "folder" and "scores" in photos:
        raise InputError(
            f"{path}, [photos]: {source} is read as published; leave scores out."
        )
    given = {"folder": "", "scores": ""} | photos.get("options", {})
    given = (
        given
        if source == "folder"
        else {k: v for k, v in given.items() if k != "scores"}
    )
    _check_call(path, "options of [photos]", given, READERS[source])


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


def _check_fields(path: Path, where: str, values: dict) -> None:
    """`InputError` unless all values are fields of a recipe, of their types."""
    _check_known(path, where, values, KIND_OF)
    for name, value in values.items():
        _check_type(path, where, name, value, get_type_hints(KIND_OF[name])[name])


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
        near = difflib.get_close_matches(name, known, 1, cutoff=0)
        place = f"{path}, {where}" if where else str(path)
        raise InputError(f"{place}: there is no {name!r}; did you mean {near[0]!r}?")

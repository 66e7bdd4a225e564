"""Many runs from one small file: arms x folds x seeds, each cell trained once, one tidy table.

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

A cell is a run of `rounds.repeat` in a folder of its own, so a sweep that was stopped goes on with
the round in which it was. What a finished cell leaves goes into tables, beside each other under one
name, and a cell that stands there is not trained again: tables can be kept, moved to another
machine, and grown by a longer grid or by another one. Of `--out sweeps/oasis.csv` there are

    sweeps/oasis.csv                    a row per cell and target: measures on test photos
    sweeps/oasis_predictions.parquet    a row per cell and test photo
    sweeps/oasis_drops.parquet          a row per cell and training photo: rounds it was left out of
    sweeps/oasis_rounds.parquet         a row per cell and round: photos kept, measures
    sweeps/oasis.json                   grids, commands, machines
    sweeps/oasis_failures.csv           cells that failed in the last sweep, if any did
    sweeps/oasis_cells/                 the runs, without networks: unfinished ones go on here, and
                                        `reported_accuracies` reads them
"""

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from tqdm.auto import tqdm

from rsrl_lib import glassbox, pixels
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.files import InputError, locked, needing, reading, replacing
from rsrl_lib.measures import measures
from rsrl_lib.photos import ScoredPhotos, read_photos, round_half_up
from rsrl_lib.protocols import reported
from rsrl_lib.recipe import Recipe, Training
from rsrl_lib.rounds import Run, repeat
from rsrl_lib.training import device, machine, threads

REPORTED = ("macro_f1", "balanced_accuracy", "kappa", "macro_mae", "accuracy", "majority_accuracy")
TABLES = ("predictions", "drops", "rounds")
KEYS = ["dataset", "labels", "seed", "fold", "arm"]
MADE_OF = ["fingerprint", "scores_fingerprint"]
DONE = "cell.json"
THRESHOLDS = {"k", "k_schedule", "keep_share"}
UNNAMED = {"drop", "training", "fold", "seed"}  # parts of a recipe that an arm does not give


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
    with reading(path, "grid of a sweep", "correct it"):
        return _cells(path)


def _cells(path: Path) -> list[Cell]:
    grid = tomllib.loads(path.read_text())
    _known(path, grid, ("photos", "grid", "common", "arms"))
    if missing := [name for name in ("photos", "arms") if not grid.get(name)]:
        raise InputError(f"{path} needs a table [{missing[0]}]; see rsrl_lib/sweeps.py.")
    places = {"dataset": path.stem, "folds": [0], "seeds": [0], "labels": "mean"}
    _known(path, grid.get("grid", {}), places)
    places |= grid.get("grid", {})
    if places["labels"] not in ("mean", "single_vote"):
        raise InputError(f"{path}: labels are 'mean' or 'single_vote', not {places['labels']!r}.")
    if not isinstance(places["dataset"], str) or not places["dataset"]:
        raise InputError(f"{path}: dataset is a name in quotes, not {places['dataset']!r}.")
    for name in ("folds", "seeds"):
        if not isinstance(places[name], list):
            raise InputError(f"{path}: {name} are a list such as [0, 1], not {places[name]!r}.")
    _known(path, grid["photos"], ("glassbox", "folder", "scores", "source", "options"))
    asked = json.dumps(grid["photos"])
    for table in (grid["photos"], grid["photos"].get("options", {})):
        for name in table.keys() & {"folder", "scores", "votes"}:
            table[name] = str((path.parent / table[name]).resolve())
    source = json.dumps(grid["photos"])
    arms = list(_arms(path, grid["arms"]))
    cells, labels, dataset = [], places["labels"], places["dataset"]
    for seed, fold, (arm, own) in product(places["seeds"], places["folds"], arms):
        try:
            shared = grid.get("common", {})
            if own.keys() & THRESHOLDS:  # an arm's own thresholds take the place of the common ones
                shared = {name: v for name, v in shared.items() if name not in THRESHOLDS}
            recipe = replace(_recipe(path, shared | own), fold=fold, seed=seed)
        except TypeError as error:
            raise InputError(f"{path}, arm {arm!r}: {error}.") from error
        if labels == "single_vote" and recipe.levels != "scores":
            raise InputError(f"{path}, arm {arm!r}: single votes go with levels = 'scores' alone.")
        said = json.dumps([asked, dataset, labels, arm, fold, seed, shared | own], sort_keys=True)
        identity = hashlib.sha256(said.encode()).hexdigest()[:12]
        cells.append(Cell(dataset, labels, arm, fold, seed, recipe, source, identity))
    if len({cell.name for cell in cells}) < len(cells):
        raise InputError(f"{path}: names of arms must differ in their letters or digits.")
    return cells


def sweep(
    grid: Path,
    out: Path,
    *,
    jobs: int | None = None,
    cluster: str = "",
    cache: Path = pixels.CACHE,
) -> pd.DataFrame:
    """Train every cell that is not finished, and write the table `out` after each of them.

    `jobs` cells are trained at once, else one per core, or one where there is a GPU; or as many as
    a Dask `cluster` (address of its scheduler) has workers, which must see the same files. A cell
    has one thread however many there are: the number of threads changes the last digits. A cell
    that fails is named in a table of failures, and the others go on; the error comes at the end.
    Returned is the whole table, other grids' cells included. Raises `InputError` while another
    sweep writes to it, and where it holds cells of the same dataset with other photos or scores.
    """
    if out.suffix != ".csv":
        raise InputError(f"{out} is to be the table of results; give a name that ends in .csv.")
    cells, cache = read_grid(grid), str(cache.resolve())  # a worker may stand in another folder
    with locked(_beside(out, "_cells") / "sweep.lock"):
        finished = _gather(out, cells)
        if left := [cell for cell in cells if cell.id not in finished]:
            _photos.cache_clear()  # files may have changed since an earlier sweep
            # Photos are decoded here once, not by every worker at the same time.
            with reading(grid, "grid of a sweep", "correct its table of photos"):
                _, decoded, of_scores = _photos(left[0].source, cache)
            if out.exists():
                table = read_results(out).query(f"dataset == {left[0].dataset!r}")
                told = table.reindex(columns=MADE_OF)  # earlier tables lack one
                if not told.isin([decoded.fingerprint, of_scores, np.nan]).all(axis=None):
                    raise InputError(
                        f"{out} holds {left[0].dataset!r} with other photos or scores; give "
                        "another --out, another name to the dataset, or those it was made with."
                    )
            facts = _beside(out, ".json")
            known = json.loads(facts.read_text())["grids"] if facts.exists() else {}
            earlier = known.get(grid.name, {}).get("machines", [])
            here = machine(left[0].recipe.training.precision) | {"threads": 1}
            here = {"cluster": cluster} if cluster else here  # its cells' rows tell of the workers
            known[grid.name] = {
                "command": f"rsrl sweep {grid} --out {out}",
                "grid": grid.read_text(),
                "machines": [each for each in earlier if each != here] + [here],
            }
            with replacing(facts) as partial:
                partial.write_text(json.dumps({"grids": known}, indent=1) + "\n")
        if cluster or not jobs:
            jobs = 1 if device().type == "cuda" and not cluster else -1
        work = (delayed(_run)(cell, folder_of(cell, out).resolve(), cache) for cell in left)
        failures, failed = {}, _beside(out, "_failures.csv")
        failed.unlink(missing_ok=True)
        try:
            with _where(cluster):
                done = Parallel(n_jobs=jobs, return_as="generator_unordered")(work)
                for name, error in tqdm(done, "cells", len(left), unit="cell", mininterval=1):
                    if error:
                        failures[name] = error
                        tqdm.write(f"failed: {name}: {error}")
                    _gather(out, cells)
        except BrokenExecutor:
            failures["one in work"] = "its process was killed, as where memory ends; fewer --jobs"
        if failures:
            pd.Series(failures, name="error").rename_axis("cell").to_csv(failed)
            first = next(iter(failures.items()))
            raise InputError(
                f"{len(failures)} of {len(cells)} cells failed (first: {first[0]}: {first[1]}); "
                f"{failed} names them; the same command tries them again."
            )
    return read_results(out)


def read_results(path: Path) -> pd.DataFrame:
    """The table of results of a sweep; a name such as `0.90` or `None` stays a name."""
    names = dict.fromkeys(("cell", "dataset", "labels", "arm", *MADE_OF), str)
    return pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""])


def reported_accuracies(grid: Path, out: Path, rule: DropRule) -> pd.DataFrame:
    """`protocols.reported` of all cells of a sweep whose runs are still there: a row a round.

    `rule` drops photos from the reported ones. Beside its columns: dataset, arm, resplit, seed,
    fold, and `majority`, the accuracy of always answering the largest score of the test photos.
    Raises `InputError` where a run is gone.
    """
    rows = []
    for cell in read_grid(grid):
        run = Run(folder_of(cell, out))
        if not (run.folder / DONE).exists():
            raise InputError(f"The run {run.folder} is needed and gone; give another --out table.")
        facts = {name: cell.place[name] for name in ("dataset", "arm", "seed", "fold")}
        facts["resplit"] = cell.recipe.resplit
        facts["majority"] = run.rounds.test_majority_accuracy.iloc[0]
        rows.append(reported(run.samples, rule).assign(**facts))
    return pd.concat(rows, ignore_index=True)


def single_votes(photos: ScoredPhotos, seed: int) -> tuple[ScoredPhotos, np.ndarray]:
    """Photos scored by one vote each, drawn from their votes; and the mean of the others (n,).

    The crowd's mean without that vote is a truth that nobody was trained on. Raises `InputError`
    where the votes are not known, or a photo has but one.
    """
    if photos.votes is None or (photos.votes.sum(axis=1) < 2).any():
        found = "none are known" if photos.votes is None else "a photo has but one"
        raise InputError(f"Single votes need two votes a photo or more, {found}; give votes.")
    counts, values = photos.votes.to_numpy(), photos.votes.columns.to_numpy(int)
    rng = np.random.default_rng([seed, 7])
    shares = counts / counts.sum(1, keepdims=True)
    drawn = np.array([rng.choice(len(values), p=own) for own in shares])
    vote = values[drawn]
    others = (counts @ values - vote) / (counts.sum(1) - 1)
    table = photos.table.assign(score=vote, mean_score=vote.astype(float))
    return replace(photos, table=table), others


def _arms(path: Path, arms: dict[str, dict]) -> Iterator[tuple[str, dict]]:
    for name, own in arms.items():
        if not own.get("each_k", True):
            raise InputError(f"{path}, arm {name!r}: each_k needs a K or more, it is empty.")
        if "each_k" not in own:
            yield name, own
        for k in own.get("each_k", []):
            yield f"{name} K={k:g}", {n: v for n, v in own.items() if n != "each_k"} | {"k": [k]}


def _recipe(path: Path, values: dict) -> Recipe:
    """A recipe from fields of Recipe, DropRule and Training, by name."""
    kinds = (Recipe, DropRule, Training)
    names = {field.name: kind for kind in kinds for field in fields(kind)}
    names = {name: kind for name, kind in names.items() if name not in UNNAMED}
    _known(path, values, names)
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    own = {kind: {k: v for k, v in values.items() if names[k] is kind} for kind in kinds}
    weights = own[Recipe].get("weights", "")
    if "." in weights:  # a file, beside the grid
        own[Recipe]["weights"] = str((path.parent / weights).resolve())
    return Recipe(drop=DropRule(**own[DropRule]), training=Training(**own[Training]), **own[Recipe])


def _known(path: Path, given: dict, names) -> None:
    for name in given:
        if name not in names:
            if name.removesuffix("s") in ("fold", "seed"):
                raise InputError(f"{path}: {name!r} is the grid's; give a list of them in [grid].")
            near = difflib.get_close_matches(name, list(names), 1, cutoff=0)
            raise InputError(f"{path}: there is no {name!r}; did you mean {near[0]!r}?")


@contextmanager
def _where(cluster: str) -> Iterator[None]:
    """Where cells are trained: on this machine, or on a Dask cluster."""
    if not cluster:
        yield
        return
    with needing("A Dask cluster", "cluster"):
        from distributed import Client
    try:
        client = Client(cluster, timeout=10)
    except (OSError, ValueError) as error:
        raise InputError(f"No Dask scheduler answers at {cluster} ({error}); start one.") from error
    # Long cells are not handed to a second worker: each is to be run once.
    with client, parallel_config(backend="dask", client=client, wait_for_workers_timeout=60):
        yield


@cache
def _photos(source: str, cache: str) -> tuple[ScoredPhotos, pixels.Pixels, str]:
    """Photos, their pixels, and a fingerprint of their scores and votes."""
    given = json.loads(source)
    if "glassbox" in given:
        scored = glassbox.open_set(**given["glassbox"])
    else:
        where = given.get("source", "folder"), given["folder"], given.get("scores")
        scored = read_photos(*where, **given.get("options", {}))
    decoded, broken = pixels.decode(scored.table, strict=scored.strict, cache=Path(cache))
    scored = scored.without(broken)
    told = scored.table[["photo", "score"]].to_csv()
    told += "" if scored.votes is None else scored.votes.to_csv()
    return scored, decoded, hashlib.sha256(told.encode()).hexdigest()[:16]


@threads(1)
def _run(cell: Cell, folder: Path, cache: str) -> tuple[str, str]:
    """Train one cell; returns its name and what went wrong, if anything did."""
    if (folder / DONE).exists():
        return cell.name, ""
    try:
        scored, decoded, of_scores = _photos(cell.source, cache)
        crowd = None
        if cell.labels == "single_vote":
            scored, crowd = single_votes(scored, cell.seed)
        run = repeat(scored, decoded, folder, cell.recipe)
        _finish(cell, run, scored, crowd, of_scores)
        return cell.name, ""
    except Exception as error:  # a cell must not take the others with it
        return cell.name, f"{type(error).__name__}: {error}"


def _finish(cell: Cell, run: Run, scored: ScoredPhotos, crowd, of_scores: str) -> None:
    """Reduce a run to its row, test predictions, drops and rounds; `crowd` (n,): other votes."""
    samples, chosen, rounds, info = run.samples, run.chosen, run.rounds, run.info
    test = samples.query(f"part == 'test' and round == {chosen}")
    scores = sorted(samples.label.dropna().unique().tolist())
    truth = {"label": test.label.to_numpy(int)}
    if crowd is not None:
        own = pd.Series(round_half_up(crowd), scored.table.photo)[test.photo]
        own = own.replace({int(k): v for k, v in info["merged_scores"].items()})
        truth["crowd"] = own.clip(scores[0], scores[-1]).to_numpy()
    # A rater's vote belongs to the source; `single_votes` draws it again.
    known = "label" if crowd is None else "crowd"
    predictions = test[["photo", "assigned"]].assign(**{known: truth[known]})
    k = cell.recipe.drop.k
    facts = {"k": np.nan if k is None else k[0], "rounds": len(rounds), "chosen": chosen}
    first, later = cell.recipe.first_steps, cell.recipe.training.steps
    if later:
        facts["steps"] = (first or later) + later * (len(rounds) - 1)
    facts["kept"] = int(rounds.kept.iloc[-1])
    facts["validation_total_f"] = rounds.validation_total_f[chosen - 1]
    facts |= {"photos": len(test), "fingerprint": info["fingerprint"]["photos"]}
    facts |= {"scores_fingerprint": of_scores, "device": info["device"]}
    facts |= {"precision": info["precision"], "torch": info["versions"]["torch"]}
    rows = []
    for target, labels in truth.items():
        found = measures(labels, test.assigned.to_numpy(), scores)
        found = {name: found[name] for name in REPORTED}
        rows.append({"cell": cell.id, **cell.place, "target": target, **facts, **found})
    train = samples[samples.part == "train"]
    out = (~train.kept).groupby(train.photo, sort=False).sum().rename("rounds_out")
    told = [f"{p}_{name}" for p in ("train", "validation", "test") for name in REPORTED]
    told = ["round", "kept", "rescued", "k1", "conv1_change", "loss", "chosen", *told]
    tables = (predictions, out.reset_index(), rounds[told])
    for name, table in zip(TABLES, tables, strict=True):
        table = table.assign(cell=cell.id, **cell.place)
        table.to_parquet(run.folder / f"cell_{name}.parquet", index=False)
    for network in run.folder.glob("*.safetensors"):
        network.unlink()
    with replacing(run.folder / DONE) as partial:
        partial.write_text(json.dumps({"cell": cell.id, "rows": rows}))


def _beside(out: Path, ending: str) -> Path:
    return out.with_name(out.stem + ending)


def folder_of(cell: Cell, out: Path) -> Path:
    """Folder of a cell's run; what stands in it beside the tables is not kept for long."""
    return _beside(out, "_cells") / cell.name


def _gather(out: Path, cells: list[Cell]) -> set[str]:
    """Put cells that are finished into the tables; returns the ids of all that stand there.

    The table of results is written last, so a cell that it names is whole in the others.
    """
    results = read_results(out) if out.exists() else pd.DataFrame(columns=["cell", *KEYS])
    places = results.drop_duplicates("cell").set_index(KEYS).cell.to_dict()
    done = {}
    for cell in cells:
        path = folder_of(cell, out) / DONE
        known = places.get(tuple(cell.place[name] for name in KEYS))
        if known is None and path.exists():
            done[cell.id] = json.loads(path.read_text())
            known = done[cell.id]["cell"]
        if known not in (None, cell.id):
            raise InputError(
                f"{out} holds a cell {cell.name!r} of another grid; give another --out, the grid "
                "it was made with, or another name to the arm."
            )
    if done:
        folders = [folder_of(cell, out) for cell in cells if cell.id in done]
        for name in TABLES:
            path = _beside(out, f"_{name}.parquet")
            parts = [pd.read_parquet(path)] if path.exists() else []
            parts = [table[table.cell.isin(results.cell)] for table in parts]
            parts += [pd.read_parquet(folder / f"cell_{name}.parquet") for folder in folders]
            with replacing(path) as partial:
                pd.concat(parts, ignore_index=True).to_parquet(partial, index=False)
        news = pd.DataFrame([row for known in done.values() for row in known["rows"]])
        results = pd.concat([results, news], ignore_index=True) if len(results) else news
        results = results.sort_values(KEYS, kind="stable", ignore_index=True)
        with replacing(out) as partial:
            results.to_csv(partial, index=False, float_format="%.5f")
    return set(results.cell)

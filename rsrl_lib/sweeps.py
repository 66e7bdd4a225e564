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
the round in which it was. Kept of a finished cell are its tables, no networks.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed, parallel_config
from tqdm.auto import tqdm

from rsrl_lib import glassbox, pixels
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.measures import measures
from rsrl_lib.network import replacing
from rsrl_lib.photos import InputError, ScoredPhotos, read_photos, round_half_up
from rsrl_lib.rounds import Recipe, Run, repeat
from rsrl_lib.training import Training, machine

REPORTED = ("macro_f1", "balanced_accuracy", "kappa", "macro_mae", "accuracy", "majority_accuracy")
DONE = "cell.json"
THRESHOLDS = {"k", "k_schedule", "keep_share"}


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: its place in the grid, and all that it needs to know."""

    arm: str
    fold: int
    seed: int
    recipe: Recipe
    source: str
    """The grid's table `photos` as JSON, how labels are made, and the name of the photos."""
    labels: str
    dataset: str

    @property
    def name(self) -> str:
        return re.sub(r"[^\w.=-]", "_", f"{self.arm}-{self.fold}-{self.seed}")

    @property
    def facts(self) -> dict:
        """All of it, as JSON reads it back."""
        return json.loads(json.dumps(asdict(self)))


def read_grid(path: Path) -> list[Cell]:
    """Cells of a grid file, seed by seed and fold by fold; `InputError` for what it cannot mean."""
    try:
        grid = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as TOML ({error}); correct it.") from error
    _known(path, grid, ("photos", "grid", "common", "arms"))
    if missing := [name for name in ("photos", "arms") if not grid.get(name)]:
        raise InputError(f"{path} needs a table [{missing[0]}]; see rsrl_lib/sweeps.py.")
    places = {"dataset": path.stem, "folds": [0], "seeds": [0], "labels": "mean"}
    _known(path, grid.get("grid", {}), places)
    places |= grid.get("grid", {})
    if places["labels"] not in ("mean", "single_vote"):
        raise InputError(f"{path}: labels are 'mean' or 'single_vote', not {places['labels']!r}.")
    _known(path, grid["photos"], ("glassbox", "folder", "scores", "source", "options"))
    for name in ("folder", "scores"):
        if name in grid["photos"]:
            grid["photos"][name] = str(path.parent / grid["photos"][name])
    options = grid["photos"].get("options", {})
    if "votes" in options:
        options["votes"] = str(path.parent / options["votes"])
    source = json.dumps(grid["photos"])
    arms = dict(_arms(grid["arms"]))
    cells = []
    for seed, fold, (arm, own) in product(places["seeds"], places["folds"], arms.items()):
        try:
            shared = grid.get("common", {})
            if own.keys() & THRESHOLDS:  # an arm's own thresholds take the place of the common ones
                shared = {name: v for name, v in shared.items() if name not in THRESHOLDS}
            recipe = _recipe(path, shared | own)
            recipe = replace(recipe, fold=fold, seed=seed)
        except TypeError as error:
            raise InputError(f"{path}, arm {arm!r}: {error}.") from error
        cells.append(Cell(arm, fold, seed, recipe, source, places["labels"], places["dataset"]))
    return cells


def sweep(
    grid: Path, out: Path, *, jobs: int = 1, cluster: str = "", cache: Path = pixels.CACHE
) -> pd.DataFrame:
    """Train every cell that is not finished, and write `results.csv` after each of them.

    `jobs` cells are trained at once, the cores shared among them; or as many as a Dask `cluster`
    (address of its scheduler) has workers, which must see the same files. Beside the results lie
    `predictions.parquet` (a row per cell and test photo), `drops.parquet` (in how many rounds each
    training photo was left out) and `provenance.json`. A cell that fails is named in
    `failures.csv`, and the others go on; the error comes at the end.
    """
    cells = read_grid(grid)
    out.mkdir(parents=True, exist_ok=True)
    finished = {cell: _read_done(out, cell) for cell in cells}
    for cell, known in finished.items():
        if known and known["cell"] != cell.facts:
            raise InputError(
                f"{out} holds a cell {cell.name!r} of another grid; give another --out folder, the "
                "grid it was made with, or another name to the arm."
            )
    left = [cell for cell, known in finished.items() if not known]
    # Photos are decoded here once, not by every worker at the same time.
    for source in {cell.source for cell in left}:
        _photos(source, str(cache))
    threads = max(1, (os.cpu_count() or 1) // jobs)
    work = (delayed(_run)(cell, str(out.resolve()), str(cache), threads) for cell in left)
    failures = {}
    with _where(cluster):
        done = Parallel(n_jobs=-1 if cluster else jobs, return_as="generator_unordered")(work)
        for name, error in tqdm(done, "cells", len(left), unit="cell", mininterval=1):
            if error:
                failures[name] = error
                tqdm.write(f"failed: {name}: {error}")
            _collect(out, cells)
    table = _collect(out, cells)
    with replacing(out / "provenance.json") as partial:
        facts = {"grid": grid.read_text(), **machine("auto")}
        partial.write_text(json.dumps(facts, indent=1) + "\n")
    (out / "failures.csv").unlink(missing_ok=True)
    if failures:
        named = pd.Series(failures, name="error").rename_axis("cell")
        named.to_csv(out / "failures.csv")
        first = next(iter(failures.items()))
        raise InputError(
            f"{len(failures)} of {len(cells)} cells failed (first: {first[0]}: {first[1]}); "
            f"{out / 'failures.csv'} names them; the same command tries them again."
        )
    return table


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


def _arms(arms: dict[str, dict]) -> Iterator[tuple[str, dict]]:
    for name, own in arms.items():
        each = own.get("each_k")
        if each is None:
            yield name, own
            continue
        own = {key: value for key, value in own.items() if key != "each_k"}
        for k in each:
            yield f"{name} K={k:g}", own | {"k": [k]}


def _recipe(path: Path, values: dict) -> Recipe:
    """A recipe from fields of Recipe, DropRule and Training, by name."""
    kinds = (Recipe, DropRule, Training)
    names = {field.name: kind for kind in kinds for field in fields(kind)}
    names = {name: kind for name, kind in names.items() if name not in ("drop", "training", "fold")}
    _known(path, values, names)
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    own = {kind: {k: v for k, v in values.items() if names[k] is kind} for kind in kinds}
    weights = own[Recipe].get("weights", "")
    if "." in weights:  # a file, beside the grid
        own[Recipe]["weights"] = str(path.parent / weights)
    return Recipe(drop=DropRule(**own[DropRule]), training=Training(**own[Training]), **own[Recipe])


def _known(path: Path, given: dict, names) -> None:
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, list(names), 1, cutoff=0)
            raise InputError(f"{path}: there is no {name!r}; did you mean {near[0]!r}?")


def _where(cluster: str):
    """Where cells are trained: on this machine, or on a Dask cluster."""
    if not cluster:
        return nullcontext()
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError(
            f"A Dask cluster needs the extra 'cluster' ({error}); install rsrl-lib[cluster]."
        ) from error
    try:
        client = Client(cluster, timeout=10)
    except (OSError, ValueError) as error:
        raise InputError(f"No Dask scheduler answers at {cluster} ({error}); start one.") from error
    # Long cells are not handed to a second worker: each is to be run once.
    return parallel_config(backend="dask", client=client, wait_for_workers_timeout=60)


@cache
def _photos(source: str, cache: str) -> tuple[ScoredPhotos, pixels.Pixels]:
    given = json.loads(source)
    if "glassbox" in given:
        scored = glassbox.open_set(**given["glassbox"])
    else:
        where = given.get("source", "folder"), given["folder"], given.get("scores")
        scored = read_photos(*where, **given.get("options", {}))
    decoded, broken = pixels.decode(scored.table, strict=scored.strict, cache=Path(cache))
    return scored.without(broken), decoded


def _run(cell: Cell, out: str, cache: str, threads: int) -> tuple[str, str]:
    """Train one cell; returns its name and what went wrong, if anything did."""
    folder = Path(out) / "cells" / cell.name
    if (folder / DONE).exists():
        return cell.name, ""
    torch.set_num_threads(threads)
    try:
        scored, decoded = _photos(cell.source, cache)
        crowd = None
        if cell.labels == "single_vote":
            scored, crowd = single_votes(scored, cell.seed)
        run = repeat(scored, decoded, folder, cell.recipe)
        _finish(cell, run, scored, crowd)
    except Exception as error:  # a cell must not take the others with it
        return cell.name, f"{type(error).__name__}: {error}"
    return cell.name, ""


def _finish(cell: Cell, run: Run, scored: ScoredPhotos, crowd: np.ndarray | None) -> None:
    """Reduce a finished run to its row, its test predictions and what it dropped."""
    samples, chosen = run.samples, run.chosen
    test = samples.query(f"part == 'test' and round == {chosen}")
    scores = sorted(samples.label.dropna().unique().tolist())
    truth = {"label": test.label.to_numpy(int)}
    if crowd is not None:
        own = pd.Series(round_half_up(crowd), scored.table.photo)[test.photo].to_numpy()
        merged = {int(k): v for k, v in run.info["merged_scores"].items()}
        own = np.array([merged.get(score, score) for score in own.tolist()])
        truth["crowd"] = np.clip(own, scores[0], scores[-1])
    place = {"dataset": cell.dataset, "labels": cell.labels}
    place |= {"arm": cell.arm, "fold": cell.fold, "seed": cell.seed}
    k = cell.recipe.drop.k
    facts = {"k": np.nan if k is None else k[0], "rounds": len(run.rounds), "chosen": chosen}
    first, later = cell.recipe.first_steps, cell.recipe.training.steps
    if later:
        facts["steps"] = (first or later) + later * (len(run.rounds) - 1)
    facts["kept"] = int(run.rounds.kept.iloc[-1])
    facts["validation_total_f"] = run.rounds.validation_total_f[chosen - 1]
    rows = [
        place
        | facts
        | {"target": target, "photos": len(test)}
        | {
            name: value
            for name, value in measures(labels, test.assigned.to_numpy(), scores).items()
            if name in REPORTED
        }
        for target, labels in truth.items()
    ]
    table = pd.DataFrame({"photo": test.photo, "assigned": test.assigned, **truth})
    table.assign(**place).to_parquet(run.folder / "predictions.parquet", index=False)
    train = samples[samples.part == "train"]
    out = (~train.kept).groupby(train.photo, sort=False).sum().rename("rounds_out").reset_index()
    out["label"] = train.groupby("photo", sort=False).label.first().to_numpy(int)
    out.assign(**place).to_parquet(run.folder / "drops.parquet", index=False)
    with replacing(run.folder / DONE) as partial:
        partial.write_text(json.dumps({"cell": cell.facts, "rows": rows}))
    for network in run.folder.glob("*.safetensors"):
        network.unlink()


def _read_done(out: Path, cell: Cell) -> dict | None:
    """What a finished cell left; None of one that is not finished."""
    path = out / "cells" / cell.name / DONE
    return json.loads(path.read_text()) if path.exists() else None


def _collect(out: Path, cells: list[Cell]) -> pd.DataFrame:
    """Put the finished cells together, in the order of the grid."""
    done = {cell: known for cell in cells if (known := _read_done(out, cell))}
    if not done:
        return pd.DataFrame()
    folders = [out / "cells" / cell.name for cell in done]
    table = pd.DataFrame([row for known in done.values() for row in known["rows"]])
    with replacing(out / "results.csv") as partial:
        table.to_csv(partial, index=False, float_format="%.5f")
    for name in ("predictions", "drops"):
        parts = [pd.read_parquet(folder / f"{name}.parquet") for folder in folders]
        with replacing(out / f"{name}.parquet") as partial:
            pd.concat(parts).to_parquet(partial, index=False)
    return table

"""Many runs from one grid: arms x folds x seeds, each cell trained once, one tidy table.

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

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from tqdm.auto import tqdm

from rsrl_lib import pixels, summary
from rsrl_lib.backbones import side_of
from rsrl_lib.comparing.grids import KEYS, Cell, name_of, read_grid
from rsrl_lib.controls import CONTROLS
from rsrl_lib.dataset import labels_of
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.duration import Pace, expected, rehearse
from rsrl_lib.files import InputError, in_words, locked, needing, reading, replacing
from rsrl_lib.machine import device, machine, threads
from rsrl_lib.measures import measures
from rsrl_lib.network import aesthetic_net
from rsrl_lib.origins import open_photos
from rsrl_lib.photos import PARTS, ScoredPhotos, round_half_up
from rsrl_lib.protocols import joined_groups, reported
from rsrl_lib.reading.tables import read_ours
from rsrl_lib.recipe import Recipe
from rsrl_lib.rounds import repeat
from rsrl_lib.runs import Run

REPORTED = (
    "macro_f1",
    "balanced_accuracy",
    "kappa",
    "macro_mae",
    "accuracy",
    "majority_accuracy",
)
TABLES = ("predictions", "drops", "rounds")
MADE_OF = ["fingerprint", "scores_fingerprint"]
DONE = "cell.json"


def sweep(
    grid: Path,
    out: Path,
    *,
    jobs: int | None = None,
    cluster: str = "",
    cache: Path = pixels.CACHE,
    say: Callable[[str], object] = lambda sentence: None,
) -> pd.DataFrame:
    """Train every cell that is not finished, and write the table `out` after each of them.

    `jobs` cells are trained at once, else one per core, or one where there is a GPU; or as many as
    a Dask `cluster` (address of its scheduler) has workers, which must see the same files. A cell
    has one thread however many there are: the number of threads changes the last digits. A cell
    that fails is named in a table of failures, and the others go on; the error comes at the end.
    `say` is given sentences about photos and cells before the first one is trained. Returned is the
    whole table, other grids' cells included. Raises `InputError` while another sweep writes to it,
    and where it holds cells of the same dataset with other photos or scores.
    """
    if out.suffix != ".csv":
        raise InputError(
            f"{out} is to be the table of results; give a name that ends in .csv."
        )
    cells = read_grid(grid)
    cache = str(cache.resolve())  # a worker may stand in another folder
    if cluster or not jobs:
        on_one_gpu = device().type == "cuda" and not cluster
        jobs = 1 if on_one_gpu else -1
    lock = beside_table(out, "_cells") / "sweep.lock"
    with locked(lock):
        finished = _gather(out, cells)
        left = [cell for cell in cells if cell.id not in finished]
        if left:
            scored = _decoded_once(grid, out, left, cache)
            for sentence in _of_start(cells, left, scored, jobs, cluster):
                say(sentence)
            if not cluster:
                seconds = _expected_seconds(left, cache) / _at_once(left, jobs)
                say(f"That will take about {in_words(seconds)} here, or less.")
            _note(grid, out, left[0], cluster)
        else:
            say(f"All {len(cells)} cells are finished already; nothing is trained.")
        failed = beside_table(out, "_failures.csv")
        failed.unlink(missing_ok=True)
        failures = _train(cells, left, out, cache, jobs, cluster, say)
        if failures:
            pd.Series(failures, name="error").rename_axis("cell").to_csv(failed)
            name, error = next(iter(failures.items()))
            raise InputError(
                f"{len(failures)} of {len(cells)} cells failed (first: {name}: {error}); "
                f"{failed} names them; the same command tries them again."
            )
    return read_results(out)


def _train(
    cells: list[Cell],
    left: list[Cell],
    out: Path,
    cache: str,
    jobs: int,
    cluster: str,
    say: Callable[[str], object],
) -> dict[str, str]:
    """Train the cells that are left, each put into the tables at once; errors by failed cell."""
    failures = {}
    begun = time.perf_counter()
    work = (delayed(_run)(cell, folder_of(cell, out).resolve(), cache) for cell in left)
    try:
        with _where(cluster):
            done = Parallel(n_jobs=jobs, return_as="generator_unordered")(work)
            progress = tqdm(done, "cells", len(left), unit="cell", mininterval=1)
            for number, (name, error) in enumerate(progress, 1):
                if number == 1 < len(left) and not error:
                    seconds = time.perf_counter() - begun
                    say(_after_first(seconds, left, jobs))
                if error:
                    failures[name] = error
                    tqdm.write(f"failed: {name}: {error}")
                _gather(out, cells)
    except BrokenExecutor:
        failures["one in work"] = (
            "its process was killed, as where memory ends; fewer --jobs"
        )
    return failures


def _decoded_once(grid: Path, out: Path, left: list[Cell], cache: str) -> ScoredPhotos:
    """Photos of a grid, decoded here, at each side that a cell needs, and not by every worker at
    the same time; `InputError` where the table of results was made with others."""
    cell = left[0]
    _photos.cache_clear()  # files may have changed since an earlier sweep
    with reading(grid, "grid of a sweep", "correct its table of photos"):
        scored, decoded, of_scores = _photos(cell.source, _side(cell), cache)
        for side in {_side(other) for other in left}:
            _photos(cell.source, side, cache)
    if out.exists():
        same_dataset = read_results(out).query(f"dataset == {cell.dataset!r}")
        made_of = same_dataset.reindex(columns=MADE_OF)  # earlier tables lack one
        is_same = made_of.isin([decoded.fingerprint, of_scores, np.nan])
        if not is_same.all(axis=None):
            raise InputError(
                f"{out} holds {cell.dataset!r} with other photos or scores; give another --out, "
                "another name to the dataset, or those it was made with."
            )
    return scored


def _note(grid: Path, out: Path, cell: Cell, cluster: str) -> None:
    """Write the grid, its command and the machine beside the table of results."""
    facts = beside_table(out, ".json")
    grids = {}
    if facts.exists():
        grids = json.loads(facts.read_text())["grids"]
    here = machine(cell.recipe.training.precision) | {"threads": 1}
    if cluster:
        here = {"cluster": cluster}  # its cells' rows tell of the workers
    earlier = grids.get(grid.name, {}).get("machines", [])
    others = [each for each in earlier if each != here]
    grids[grid.name] = {
        "command": f"rsrl sweep {grid} --out {out}",
        "grid": grid.read_text("utf-8-sig"),
        "machines": [*others, here],
    }
    with replacing(facts) as partial:
        partial.write_text(json.dumps({"grids": grids}, indent=1) + "\n")


def _of_start(
    cells: list[Cell], left: list[Cell], scored: ScoredPhotos, jobs: int, cluster: str
) -> list[str]:
    """What is going to be trained on what, in sentences."""
    recipe = left[0].recipe
    sentences = [summary.of_photos(scored)]
    if left[0].labels == "single_vote":
        sentences.append(
            "The label of a photo is one of its votes, drawn anew by each seed."
        )
    elif recipe.levels == "scores":
        groups = scored.table.get("group")
        if groups is not None:
            groups = joined_groups(groups.to_numpy())
        _, merged, _ = labels_of(scored, recipe, groups)
        sentences += summary.of_scores(scored, merged)
    arms = {cell.arm for cell in cells}
    folds = {cell.fold for cell in cells}
    seeds = {cell.seed for cell in cells}
    sentences.append(
        f"{len(cells)} cells: arms {len(arms)} x folds {len(folds)} x seeds {len(seeds)}; "
        f"{len(cells) - len(left)} are finished already, {len(left)} are trained now."
    )
    if cluster:
        sentences.append(f"They are trained on the workers of {cluster}.")
        return sentences
    where = summary.device_in_words(recipe.training.precision)
    sentences.append(
        f"They are trained {where}, {_at_once(left, jobs)} at once, each with one thread."
    )
    return sentences


def _at_once(left: list[Cell], jobs: int) -> int:
    most = jobs if jobs > 0 else os.cpu_count()
    return min(len(left), most)


@threads(1)
def _expected_seconds(left: list[Cell], cache: str) -> float:
    """Seconds that the cells take one after the other, by a rehearsal of each kind of network."""
    paces = {}
    seconds = 0.0
    for cell in left:
        recipe = cell.recipe
        scored, decoded, _ = _photos(cell.source, _side(cell), cache)
        kind = (recipe.backbone, recipe.head, recipe.tune, recipe.training)
        is_new = kind not in paces
        if is_new:
            paces[kind] = _pace(recipe, scored, decoded)
        if paces[kind] is None:
            continue
        if is_new or recipe.tune != "head":  # features are computed once for all
            train = round(recipe.train_share * len(scored))
            counts = {"training_photos": train, "photos": len(scored)}
            seconds += expected(paces[kind], recipe, **counts)
    return seconds


def _pace(recipe: Recipe, scored: ScoredPhotos, decoded: pixels.Pixels) -> Pace | None:
    """What the network of a recipe takes; None where there is none, which its cell will tell."""
    scores = sorted(scored.table.score.unique().tolist())
    how = {"weights": recipe.weights, "head": recipe.head, "seed": 0}
    try:
        network = aesthetic_net(recipe.backbone, scores, **how)
    except InputError:
        return None
    return rehearse(network, decoded, recipe)


def _after_first(seconds: float, left: list[Cell], jobs: int) -> str:
    """How long the other cells take, after the first took so many seconds."""
    others = len(left) - 1
    rest = others * seconds / _at_once(left, jobs)
    which = "the other takes" if others == 1 else f"the other {others} take"
    return f"The first cell took {in_words(seconds)}; {which} about {in_words(rest)}."


def few_kept(grid: Path, out: Path) -> list[str]:
    """A sentence about cells of a sweep that a K left with few photos, where there are any."""
    cells = read_grid(grid)
    arms_by_k = set()
    for cell in cells:
        follows_rule = CONTROLS[cell.recipe.control].follows_rule
        drop = cell.recipe.drop
        has_given_k = drop.k is not None or drop.k_rounds is not None
        if follows_rule and has_given_k:
            arms_by_k.add(cell.arm)
    rounds = pd.read_parquet(beside_table(out, "_rounds.parquet"))
    drops = pd.read_parquet(beside_table(out, "_drops.parquet"))
    of_grid = rounds[rounds.cell.isin([cell.id for cell in cells])]
    return summary.few_of_sweep(of_grid, drops, arms_by_k)


def read_results(path: Path) -> pd.DataFrame:
    """The table of results of a sweep; a name such as `0.90` or `None` stays a name."""
    return read_ours(path)


def write_results(out: Path, results: pd.DataFrame) -> None:
    """Write the table of results, its rows in the order of their places."""
    ordered = results.sort_values(KEYS, kind="stable", ignore_index=True)
    with replacing(out) as partial:
        ordered.to_csv(partial, index=False, float_format="%.5f")


def reported_accuracies(grid: Path, out: Path, rule: DropRule) -> pd.DataFrame:
    """`protocols.reported` of all cells of a sweep whose runs are still there: a row a round.

    `rule` drops photos from the reported ones. Beside its columns: dataset, arm, resplit, seed,
    fold, and `majority`, the accuracy of always answering the largest score of the test photos.
    Raises `InputError` where a run is gone.
    """
    tables = []
    for cell in read_grid(grid):
        run = Run(folder_of(cell, out))
        if not (run.folder / DONE).exists():
            raise InputError(
                f"The run {run.folder} is needed and gone; give another --out table."
            )
        table = reported(run.samples, rule).assign(
            dataset=cell.dataset,
            arm=cell.arm,
            seed=cell.seed,
            fold=cell.fold,
            resplit=cell.recipe.resplit,
            majority=run.rounds.test_majority_accuracy.iloc[0],
        )
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def single_votes(photos: ScoredPhotos, seed: int) -> tuple[ScoredPhotos, np.ndarray]:
    """Photos scored by one vote each, drawn from their votes; and the mean of the others (n,).

    The crowd's mean without that vote is a truth that nobody was trained on. Raises `InputError`
    where the votes are not known, or a photo has but one.
    """
    reason = ""
    if photos.votes is None:
        reason = "none are known"
    elif (photos.votes.sum(axis=1) < 2).any():
        reason = "a photo has but one"
    if reason:
        raise InputError(
            f"Single votes need two votes a photo or more, {reason}; give votes."
        )
    counts = photos.votes.to_numpy()
    scores = photos.votes.columns.to_numpy(int)
    shares = counts / counts.sum(1, keepdims=True)
    rng = np.random.default_rng([seed, 7])
    drawn = np.array([rng.choice(len(scores), p=of_photo) for of_photo in shares])
    vote = scores[drawn]
    sum_of_others = counts @ scores - vote
    mean_of_others = sum_of_others / (counts.sum(1) - 1)
    table = photos.table.assign(score=vote, mean_score=vote.astype(float))
    return replace(photos, table=table), mean_of_others


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
        raise InputError(
            f"No Dask scheduler answers at {cluster} ({error}); start one."
        ) from error
    # Long cells are not handed to a second worker: each is to be run once.
    with (
        client,
        parallel_config(backend="dask", client=client, wait_for_workers_timeout=60),
    ):
        yield


def _side(cell: Cell) -> int:
    """Side in pixels at which the photos of a cell are decoded."""
    return side_of(cell.recipe.backbone)


@cache
def _photos(
    source: str, side: int, cache: str
) -> tuple[ScoredPhotos, pixels.Pixels, str]:
    """Photos, their pixels, and a fingerprint of their scores, votes, parts and groups."""
    scored = open_photos(json.loads(source))
    decoded, broken = pixels.decode(
        scored.table, strict=scored.strict, cache=Path(cache), side=side
    )
    scored = scored.without(broken)
    text = scored.table[["photo", "score"]].to_csv()
    for name in ("part", "group"):
        if name in scored.table:
            text += scored.table[name].to_csv()
    if scored.votes is not None:
        text += scored.votes.to_csv()
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    return scored, decoded, fingerprint


@threads(1)
def _run(cell: Cell, folder: Path, cache: str) -> tuple[str, str]:
    """Train one cell; returns its name and what went wrong, if anything did."""
    if (folder / DONE).exists():
        return cell.name, ""
    try:
        scored, decoded, of_scores = _photos(cell.source, _side(cell), cache)
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
    samples = run.samples
    scores = sorted(samples.label.dropna().unique().tolist())
    test = samples.query(f"part == 'test' and round == {run.chosen}")
    if test.empty:
        raise InputError("A cell of a sweep is measured on test photos, and has none.")
    truths = {"label": test.label.to_numpy(int)}
    if crowd is not None:
        of_others = pd.Series(round_half_up(crowd), scored.table.photo)
        of_others = of_others[test.photo].replace(run.merged_scores)
        truths["crowd"] = of_others.clip(scores[0], scores[-1]).to_numpy()

    facts = _facts(cell, run, photos=len(test), of_scores=of_scores)
    rows = []
    for target, truth in truths.items():
        every = measures(truth, test.assigned.to_numpy(), scores)
        reported = {name: every[name] for name in REPORTED}
        row = {"cell": cell.id, **cell.place, "target": target, **facts, **reported}
        rows.append(row)

    # A rater's vote belongs to the source; `single_votes` draws it again.
    target = "label" if crowd is None else "crowd"
    predictions = test[["photo", "assigned"]].assign(**{target: truths[target]})
    tables = (predictions, _drops(samples), _rounds(run))
    for name, table in zip(TABLES, tables, strict=True):
        table = table.assign(cell=cell.id, **cell.place)
        table.to_parquet(run.folder / f"cell_{name}.parquet", index=False)
    for network in run.folder.glob("*.safetensors"):
        network.unlink()
    (run.folder / "near_duplicates.png").unlink(missing_ok=True)  # a megabyte a cell
    with replacing(run.folder / DONE) as partial:
        partial.write_text(json.dumps({"cell": cell.id, "rows": rows}))


def _facts(cell: Cell, run: Run, photos: int, of_scores: str) -> dict[str, object]:
    """What the row of a cell tells of its run, whatever its answers are compared with."""
    rounds = run.rounds
    chosen = run.chosen
    info = run.info
    k = cell.recipe.drop.k
    facts = {
        "k": np.nan if k is None else k[0],
        "rounds": len(rounds),
        "chosen": chosen,
    }
    steps = cell.recipe.training.steps
    if steps:
        first_steps = cell.recipe.first_steps or steps
        facts["steps"] = first_steps + steps * (len(rounds) - 1)
    return facts | {
        "kept": int(rounds.kept.iloc[-1]),
        "validation_total_f": rounds.validation_total_f[chosen - 1],
        "photos": photos,
        "fingerprint": info["fingerprint"]["photos"],
        "scores_fingerprint": of_scores,
        "device": info["device"],
        "precision": info["precision"],
        "torch": info["versions"]["torch"],
    }


def _drops(samples: pd.DataFrame) -> pd.DataFrame:
    """In how many rounds each training photo was left out."""
    train = samples[samples.part == "train"]
    is_out = ~train.kept
    rounds_out = is_out.groupby(train.photo, sort=False).sum()
    return rounds_out.rename("rounds_out").reset_index()


def _rounds(run: Run) -> pd.DataFrame:
    """The columns of a run's rounds that the table of all cells has."""
    columns = ["round", "kept", "rescued", "k1", "conv1_change", "loss", "chosen"]
    for part in PARTS:
        columns += [f"{part}_{measure}" for measure in REPORTED]
    return run.rounds[columns]


def beside_table(out: Path, ending: str) -> Path:
    """A file or folder that lies beside the table of results, under its name."""
    return out.with_name(out.stem + ending)


def folder_of(cell: Cell, out: Path) -> Path:
    """Folder of a cell's run; what stands in it beside the tables is not kept for long."""
    return folder_at(cell.place, out)


def folder_at(place: Mapping[str, object], out: Path) -> Path:
    """The same by the cell's place."""
    return beside_table(out, "_cells") / name_of(place)


def _gather(out: Path, cells: list[Cell]) -> set[str]:
    """Put cells that are finished into the tables; returns the ids of all that stand there.

    The table of results is written last, so a cell that it names is whole in the others.
    """
    results = pd.DataFrame(columns=["cell", *KEYS])
    if out.exists():
        results = read_results(out)
    rows_of = _newly_finished(out, cells, results)
    if rows_of:
        folders = [folder_of(cell, out) for cell in cells if cell.id in rows_of]
        for name in TABLES:
            _grow(
                beside_table(out, f"_{name}.parquet"), name, folders, set(results.cell)
            )
        news = pd.DataFrame([row for rows in rows_of.values() for row in rows])
        if len(results):
            news = pd.concat([results, news], ignore_index=True)
        results = news
        write_results(out, results)
    return set(results.cell)


def _newly_finished(
    out: Path, cells: list[Cell], results: pd.DataFrame
) -> dict[str, list[dict]]:
    """Rows of the cells that are finished and not in the table yet, by id.

    Raises `InputError` where a cell of another grid has the place of one of these.
    """
    id_at = results.drop_duplicates("cell").set_index(KEYS).cell.to_dict()
    rows_of = {}
    for cell in cells:
        place = tuple(cell.place[name] for name in KEYS)
        finished_id = id_at.get(place)
        path = folder_of(cell, out) / DONE
        if finished_id is None and path.exists():
            done = json.loads(path.read_text())
            finished_id = done["cell"]
            rows_of[cell.id] = done["rows"]
        if finished_id not in (None, cell.id):
            raise InputError(
                f"{out} holds a cell {cell.name!r} of another grid; give another --out, the grid "
                "it was made with, or another name to the arm."
            )
    return rows_of


def _grow(path: Path, name: str, folders: list[Path], ids: set[str]) -> None:
    """Add what runs left in their folders to a table, which keeps the cells of these ids."""
    tables = []
    if path.exists():
        table = pd.read_parquet(path)
        tables.append(table[table.cell.isin(ids)])
    for folder in folders:
        tables.append(pd.read_parquet(folder / f"cell_{name}.parquet"))
    with replacing(path) as partial:
        pd.concat(tables, ignore_index=True).to_parquet(partial, index=False)

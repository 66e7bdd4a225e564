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
from collections.abc import Callable, Iterator
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
from rsrl_lib.comparing.grids import KEYS, Cell, read_grid
from rsrl_lib.controls import CONTROLS
from rsrl_lib.drawing import glassbox
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.files import InputError, locked, needing, reading, replacing
from rsrl_lib.machine import device, machine, threads
from rsrl_lib.measures import measures
from rsrl_lib.photos import ScoredPhotos, round_half_up
from rsrl_lib.protocols import merge_rare, reported
from rsrl_lib.reading.tables import read_ours
from rsrl_lib.rounds import repeat
from rsrl_lib.runs import Run
from rsrl_lib.sources import read_photos

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
    cells, cache = (
        read_grid(grid),
        str(cache.resolve()),
    )  # a worker may stand in another folder
    if cluster or not jobs:
        jobs = 1 if device().type == "cuda" and not cluster else -1
    with locked(_beside(out, "_cells") / "sweep.lock"):
        finished = _gather(out, cells)
        left = [cell for cell in cells if cell.id not in finished]
        if left:
            scored = _decoded_once(grid, out, left[0], cache)
            for sentence in _of_start(cells, left, scored, jobs, cluster):
                say(sentence)
            _note(grid, out, left[0], cluster)
        else:
            say(f"All {len(cells)} cells are finished already; nothing is trained.")
        work = (
            delayed(_run)(cell, folder_of(cell, out).resolve(), cache) for cell in left
        )
        failures, failed = {}, _beside(out, "_failures.csv")
        failed.unlink(missing_ok=True)
        try:
            with _where(cluster):
                done = Parallel(n_jobs=jobs, return_as="generator_unordered")(work)
                for name, error in tqdm(
                    done, "cells", len(left), unit="cell", mininterval=1
                ):
                    if error:
                        failures[name] = error
                        tqdm.write(f"failed: {name}: {error}")
                    _gather(out, cells)
        except BrokenExecutor:
            failures["one in work"] = (
                "its process was killed, as where memory ends; fewer --jobs"
            )
        if failures:
            pd.Series(failures, name="error").rename_axis("cell").to_csv(failed)
            first = next(iter(failures.items()))
            raise InputError(
                f"{len(failures)} of {len(cells)} cells failed (first: {first[0]}: {first[1]}); "
                f"{failed} names them; the same command tries them again."
            )
    return read_results(out)


def _decoded_once(grid: Path, out: Path, cell: Cell, cache: str) -> ScoredPhotos:
    """Photos of a grid, decoded here and not by every worker at the same time; `InputError` where
    the table of results was made with others."""
    _photos.cache_clear()  # files may have changed since an earlier sweep
    with reading(grid, "grid of a sweep", "correct its table of photos"):
        scored, decoded, of_scores = _photos(cell.source, cache)
    if out.exists():
        table = read_results(out).query(f"dataset == {cell.dataset!r}")
        told = table.reindex(columns=MADE_OF)  # earlier tables lack one
        if not told.isin([decoded.fingerprint, of_scores, np.nan]).all(axis=None):
            raise InputError(
                f"{out} holds {cell.dataset!r} with other photos or scores; give another --out, "
                "another name to the dataset, or those it was made with."
            )
    return scored


def _note(grid: Path, out: Path, cell: Cell, cluster: str) -> None:
    """Write the grid, its command and the machine beside the table of results."""
    facts = _beside(out, ".json")
    known = json.loads(facts.read_text())["grids"] if facts.exists() else {}
    earlier = known.get(grid.name, {}).get("machines", [])
    here = machine(cell.recipe.training.precision) | {"threads": 1}
    here = (
        {"cluster": cluster} if cluster else here
    )  # its cells' rows tell of the workers
    known[grid.name] = {
        "command": f"rsrl sweep {grid} --out {out}",
        "grid": grid.read_text("utf-8-sig"),
        "machines": [each for each in earlier if each != here] + [here],
    }
    with replacing(facts) as partial:
        partial.write_text(json.dumps({"grids": known}, indent=1) + "\n")


def _of_start(
    cells: list[Cell], left: list[Cell], scored: ScoredPhotos, jobs: int, cluster: str
) -> list[str]:
    """What is going to be trained on what, in sentences."""
    said = [summary.of_photos(scored)]
    if left[0].labels == "single_vote":
        said.append(
            "The label of a photo is one of its votes, drawn anew by each seed."
        )
    elif left[0].recipe.levels == "scores":
        said += summary.of_scores(scored, merge_rare(scored.table.score.to_numpy())[1])
    arms, folds, seeds = (
        len({getattr(c, n) for c in cells}) for n in ("arm", "fold", "seed")
    )
    finished = len(cells) - len(left)
    said.append(
        f"{len(cells)} cells: arms {arms} x folds {folds} x seeds {seeds}; {finished} are finished "
        f"already, {len(left)} are trained now."
    )
    if cluster:
        return [*said, f"They are trained on the workers of {cluster}."]
    at_once = min(len(left), jobs if jobs > 0 else os.cpu_count())
    where = summary.device_in_words(left[0].recipe.training.precision)
    return [
        *said,
        f"They are trained {where}, {at_once} at once, each with one thread.",
    ]


def few_kept(grid: Path, out: Path) -> list[str]:
    """A sentence about cells of a sweep that a K left with few photos, where there are any."""
    cells = read_grid(grid)
    by_k = {
        cell.arm
        for cell in cells
        if CONTROLS[cell.recipe.control].follows_rule
        and cell.recipe.drop.keep_share is None
    }
    ids = [cell.id for cell in cells]
    rounds, drops = (
        pd.read_parquet(_beside(out, f"_{n}.parquet")) for n in ("rounds", "drops")
    )
    of_grid = rounds[rounds.cell.isin(ids)]
    return summary.few_of_sweep(of_grid, drops, by_k)


def read_results(path: Path) -> pd.DataFrame:
    """The table of results of a sweep; a name such as `0.90` or `None` stays a name."""
    return read_ours(path)


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
            raise InputError(
                f"The run {run.folder} is needed and gone; give another --out table."
            )
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
        raise InputError(
            f"Single votes need two votes a photo or more, {found}; give votes."
        )
    counts, values = photos.votes.to_numpy(), photos.votes.columns.to_numpy(int)
    rng = np.random.default_rng([seed, 7])
    shares = counts / counts.sum(1, keepdims=True)
    drawn = np.array([rng.choice(len(values), p=own) for own in shares])
    vote = values[drawn]
    others = (counts @ values - vote) / (counts.sum(1) - 1)
    table = photos.table.assign(score=vote, mean_score=vote.astype(float))
    return replace(photos, table=table), others


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


@cache
def _photos(source: str, cache: str) -> tuple[ScoredPhotos, pixels.Pixels, str]:
    """Photos, their pixels, and a fingerprint of their scores and votes."""
    given = json.loads(source)
    if "glassbox" in given:
        scored = glassbox.open_set(**given["glassbox"])
    else:
        where = given.get("source", "folder"), given["folder"], given.get("scores")
        scored = read_photos(*where, **given.get("options", {}))
    decoded, broken = pixels.decode(
        scored.table, strict=scored.strict, cache=Path(cache)
    )
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
        own = own.replace(run.merged_scores)
        truth["crowd"] = own.clip(scores[0], scores[-1]).to_numpy()
    # A rater's vote belongs to the source; `single_votes` draws it again.
    known = "label" if crowd is None else "crowd"
    predictions = test[["photo", "assigned"]].assign(**{known: truth[known]})
    k = cell.recipe.drop.k
    facts = {
        "k": np.nan if k is None else k[0],
        "rounds": len(rounds),
        "chosen": chosen,
    }
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
    results = (
        read_results(out) if out.exists() else pd.DataFrame(columns=["cell", *KEYS])
    )
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
            parts += [
                pd.read_parquet(folder / f"cell_{name}.parquet") for folder in folders
            ]
            with replacing(path) as partial:
                pd.concat(parts, ignore_index=True).to_parquet(partial, index=False)
        news = pd.DataFrame([row for known in done.values() for row in known["rows"]])
        results = (
            pd.concat([results, news], ignore_index=True) if len(results) else news
        )
        results = results.sort_values(KEYS, kind="stable", ignore_index=True)
        with replacing(out) as partial:
            results.to_csv(partial, index=False, float_format="%.5f")
    return set(results.cell)

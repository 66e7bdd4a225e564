"""The repetitive loop: train, judge all photos, drop, train on; saved after every round.

aestheticNet_1 is fine-tuned on all training photos. Then, round by round, the likelihoods of all
original training photos decide which of them the next network, started from the last, is trained
on. Everything a round knows is a row of a tidy table in the run's folder:

    run.json              recipe, seed, versions, device, fingerprint of photos and scores
    split.csv             photo, score, label (a rare score merged into its neighbour), part,
                          digest of the file
    rounds.csv            one row per round: photos kept, rescued, K, loss, measures, chosen
    per_class.csv         one row per round, part and score; confusion.csv beside it
    samples.parquet       one row per round and photo: assigned score, own and top likelihood, kept
    conv1.safetensors     round_01.weight, round_01.bias (where conv1 has one), ...
    network_best.safetensors, network_last.safetensors
    half_0_….safetensors, half_1_…   networks that saw one half only, where a control needs them

`network_last` is written last and names its round: a killed run goes on after that round and cuts
the tables back to it. Optimisers start anew each round and every random draw of a round comes
from (seed, round), so no other state is needed and tables and weights end up identical on one
processor.
"""

import functools
import hashlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import distributed

from rsrl_lib import controls
from rsrl_lib import measures as m
from rsrl_lib.drop_rules import Decision, largest_classes
from rsrl_lib.files import InputError, locked, reading, replacing
from rsrl_lib.network import AestheticNet, aesthetic_net, load_network, save_network
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.pixels import Pixels
from rsrl_lib.protocols import low_high, merge_rare, resplit, split
from rsrl_lib.recipe import Recipe
from rsrl_lib.training import (
    fine_tune,
    joint_loss,
    joint_targets,
    judge,
    logits,
    machine,
    sample_weights,
    soft_attributes,
    team,
    threads,
    threads_of,
)

PARTS = ("train", "validation", "test")
TABLES = ("rounds", "per_class", "confusion", "samples")
PART_OF_A_RUN = ("part of a run", "train the run anew")


@dataclass(frozen=True)
class Run:
    """A run on disk; its tables are read when asked for."""

    folder: Path

    def _read(self, name: str, reader: Callable, **how):
        with reading(self.folder / name, *PART_OF_A_RUN):
            return reader(self.folder / name, **how)

    def _table(self, name: str) -> pd.DataFrame:
        return self._read(name, pd.read_csv, dtype={"photo": str, "digest": str})

    @property
    def info(self) -> dict:
        return self._read("run.json", lambda path: json.loads(path.read_text()))

    @property
    def split(self) -> pd.DataFrame:
        return self._table("split.csv")

    @property
    def rounds(self) -> pd.DataFrame:
        return self._table("rounds.csv")

    @property
    def per_class(self) -> pd.DataFrame:
        return self._table("per_class.csv")

    @property
    def confusion(self) -> pd.DataFrame:
        return self._table("confusion.csv")

    @property
    def samples(self) -> pd.DataFrame:
        return self._read("samples.parquet", pd.read_parquet)

    @property
    def chosen(self) -> int:
        return int(self.rounds.set_index("round").chosen.idxmax())

    def network(self, which: Literal["best", "last"] = "best") -> AestheticNet:
        return load_network(self.folder / f"network_{which}.safetensors")[0]

    def conv1(self) -> dict[str, torch.Tensor]:
        return self._read("conv1.safetensors", load_file)


def open_run(folder: Path) -> Run:
    """A run that has at least one finished round; `InputError` where there is none."""
    if not (Path(folder) / "network_last.safetensors").exists():
        raise InputError(f"{folder} holds no run with a finished round; make one with rsrl train.")
    return Run(Path(folder))


def finished(rounds: pd.DataFrame, recipe: Recipe) -> bool:
    """Whether the stop rule ends a run after these rounds."""
    if not len(rounds):
        return False
    if recipe.stop == "loss" and rounds.train_quadratic_loss.iloc[-1] < recipe.loss_threshold:
        return True
    since_best = len(rounds) - 1 - int(rounds[f"{recipe.choose}_total_f"].argmax())
    if recipe.stop == "patience" and since_best >= recipe.patience:
        return True
    return len(rounds) >= recipe.rounds


def repeat(
    photos: ScoredPhotos,
    pixels: Pixels,
    folder: Path,
    recipe: Recipe,
    *,
    other: tuple[pd.DataFrame, Pixels] | None = None,
) -> Run:
    """Run the repetitive loop, or finish one that was interrupted; a finished run is returned.

    `pixels` holds the photos of `photos` in the same order. `other` are unscored photos of another
    source (table with `photo`, their pixels): each round's network assigns them scores too
    (SSRL-2019 Table 3; part `other` of `samples`). Raises `InputError` when the folder holds a run
    of another recipe or of other photos, or another process is at it.
    """
    folder = Path(folder)
    there = folder.iterdir() if folder.exists() else ()
    has_files = any(path.suffix not in (".partial", ".lock") for path in there)
    if has_files and not (folder / "run.json").exists():
        raise InputError(f"{folder} holds other files and no run; give a new or empty folder.")
    writes = team()[0] == 0  # of the processes of torchrun, the first
    count = torch.get_num_threads()
    if (folder / "network_last.safetensors").exists() and not finished(Run(folder).rounds, recipe):
        count = threads_of(Run(folder).info)
    with locked(folder / "run.lock") if writes else nullcontext(), threads(count):
        run = _repeat(photos, pixels, folder, recipe, other, writes=writes)
    if team()[1] > 1:
        distributed.barrier()  # the others read what the first has written
    return run


def _repeat(
    photos: ScoredPhotos, pixels: Pixels, folder: Path, recipe: Recipe, other, *, writes: bool
) -> Run:
    run = Run(folder)
    mean_scores = photos.table.mean_score.to_numpy()
    labels, merged = merge_rare(photos.table.score.to_numpy())
    if recipe.levels == "low-high":
        labels, merged = low_high(mean_scores, recipe.cut), {}
    divided = split(labels, fold=recipe.fold, seed=recipe.seed)
    original = np.flatnonzero(divided == "train")
    attributes = soft_attributes(photos, recipe.attributes, original)
    weights = sample_weights(mean_scores, recipe.ambiguous, recipe.weights_ab)
    learned = np.column_stack([labels, weights, attributes])
    if writes:
        table = photos.table[["photo", "score"]].assign(label=labels, part=divided)
        table["digest"] = pixels.digests
        _claim(run, recipe, _fingerprints(photos, pixels, other, learned), merged, table)
        with replacing(folder / "split.csv") as partial:
            table.to_csv(partial, index=False)

    scores = np.unique(labels).tolist()
    view = recipe.training.view
    form = {"weights": recipe.weights, "seed": recipe.seed, "head": recipe.head}
    form["levels"] = ("low", "high") if recipe.levels == "low-high" else ()
    form["attributes"] = list(attributes)
    fresh = functools.partial(aesthetic_net, recipe.backbone, scores, **form)
    weights[original] *= controls.weights(recipe.control, labels[original])
    level_loss = controls.level_loss(recipe.control, labels[original])
    is_halved, redraws = recipe.control in controls.HALVED, recipe.control != "random-drop-same"
    half = controls.halves(labels[original], recipe.seed) if is_halved else None

    def train(network: AestheticNet, kept: np.ndarray, i: int) -> tuple[np.ndarray, float]:
        """Fine-tune on what is kept (n,) of the training photos; the rows used, and the loss."""
        seeds = np.random.SeedSequence([recipe.seed, i])
        rng, rows = np.random.default_rng(seeds), original[kept]
        rows = rows[controls.resampled(recipe.control, labels[rows], rng)]
        targets = network.nodes(labels[rows]), weights[rows], attributes.to_numpy()[rows]
        steps = (recipe.first_steps if i == 1 else None) or recipe.training.steps
        loss = fine_tune(
            network,
            pixels,
            rows,
            joint_targets(*targets, literal=recipe.literal_weights),
            replace(recipe.training, steps=steps),
            loss=functools.partial(joint_loss, level_loss=level_loss),
            seed=int(seeds.generate_state(1)[0]),
            title=f"round {i} of {recipe.rounds}, {len(rows)} photos",
        )
        return rows, loss

    tables, network, pair = _resume(run)
    while not finished(tables["rounds"], recipe):
        i = len(tables["rounds"]) + 1
        parts = resplit(divided, labels, recipe.resplit, round=i, seed=recipe.seed)
        original = np.flatnonzero(parts == "train")
        if i == 1:
            network = fresh()
            pair = [fresh() for _ in range(2 * is_halved)]
            decision = Decision(np.ones(len(original), bool), 0, ())
        else:
            previous = tables["samples"][tables["samples"]["round"] == i - 1].iloc[original]
            unseen = np.empty((len(original), len(scores)), np.float32)
            for n, of_other_half in enumerate(pair):
                own_half = original[half == n]
                unseen[half == n] = logits(of_other_half, pixels, own_half, **view)
            decision = controls.decision(
                recipe.control,
                recipe.drop,
                labels[original],
                previous.own_likelihood.to_numpy(),
                previous.top_likelihood.to_numpy(),
                unseen=unseen,
                before=previous.kept.to_numpy(),
                after_round=i - 1,
                rng=np.random.default_rng([recipe.seed, i * redraws, 1]),
            )
        conv1_before = _conv1_weight(network)
        rows, loss = train(network, decision.kept, i)
        if i == recipe.rounds or not controls.reads_unseen(recipe.control, after_round=i):
            pair = []
        for n, of_other_half in enumerate(pair):
            train(of_other_half, decision.kept & (half != n), i)
        moved = (_conv1_weight(network) - conv1_before).norm() / conv1_before.norm()

        max1 = largest_classes(labels[original])[0]
        sample = judge(network, pixels, labels=labels, top_score=max1, **view)
        sample = sample.assign(photo=photos.table.photo, part=parts, kept=False)
        sample.loc[rows, "kept"] = True
        if other is not None:
            strangers = judge(network, other[1], top_score=max1, **view)
            strangers = strangers.assign(photo=other[0].photo.to_numpy(), part="other", kept=False)
            sample = pd.concat([sample, strangers], ignore_index=True)
        row = {"round": i, "kept": int(sample.kept.sum()), "rescued": decision.rescued}
        row |= {f"k{n + 1}": k for n, k in enumerate((*decision.thresholds, *[np.nan] * 3)[:3])}
        row |= {"chosen": False, "conv1_change": float(moved), "loss": loss}
        news = m.of_parts(sample, scores, PARTS) | {"samples": sample}
        news["rounds"] = pd.concat([pd.DataFrame([row]), news["rounds"]], axis=1)
        tables = {
            name: pd.concat([tables[name], news[name].assign(round=i)], ignore_index=True)
            for name in TABLES
        }
        best = int(tables["rounds"][f"{recipe.choose}_total_f"].argmax())
        tables["rounds"]["chosen"] = np.arange(i) == best
        if writes:
            _save(run, tables, network, pair, i, is_best=best == i - 1)
    return run


def _fingerprints(photos: ScoredPhotos, pixels: Pixels, other, learned) -> dict[str, str]:
    scores = photos.table[["photo", "score"]].to_csv(index=False).encode() + learned.tobytes()
    return {
        "photos": pixels.fingerprint,
        "scores": hashlib.sha256(scores).hexdigest()[:16],
        "photos of another source": "none" if other is None else other[1].fingerprint,
    }


def _claim(
    run: Run,
    recipe: Recipe,
    fingerprint: dict[str, str],
    merged: dict[int, int],
    table: pd.DataFrame,
) -> None:
    """Make the run's folder its own, or see that it already is."""
    described = json.loads(json.dumps(asdict(recipe)))
    folder, path = run.folder, run.folder / "run.json"
    if (folder / "network_last.safetensors").exists():
        there = run.info
        was, now = ({**r, **r["drop"], **r["training"]} for r in (there["recipe"], described))
        changes = [
            f"{k} {was.get(k)} there and {now[k]} now"
            for k in now
            if was.get(k) != now[k] and not isinstance(now[k], dict)
        ]
        if changes:
            raise InputError(
                f"{folder} holds a run of another recipe ({', '.join(changes)}); give another "
                "--run folder, or the recipe it was made with."
            )
        others = [name for name in fingerprint if there["fingerprint"][name] != fingerprint[name]]
        if others:
            known = ["photo", "score", "digest"]
            rows = pd.concat([run.split[known], table[known]]).drop_duplicates(keep=False)
            names = rows.photo.unique()
            named = f" ({len(names)} photos, first: {names[0]})" if len(names) else ""
            raise InputError(
                f"{folder} holds a run with different {' and '.join(others)}{named}; give another "
                "--run folder, or those it was made with."
            )
        return
    # Before a first round is finished there is nothing to lose, and a corrected recipe may follow.
    info = {
        "recipe": described,
        "fingerprint": fingerprint,
        "merged_scores": merged,
        **machine(recipe.training.precision),
    }
    with replacing(path) as partial:
        partial.write_text(json.dumps(info, indent=1))


def _conv1_weight(network: AestheticNet) -> torch.Tensor:
    """A copy in one memory order: a trained and a read network differ in theirs, and so would
    the last digit of a sum over the weights."""
    return network.conv1.weight.detach().cpu().clone(memory_format=torch.contiguous_format)


def _resume(run: Run) -> tuple[dict[str, pd.DataFrame], AestheticNet | None, list[AestheticNet]]:
    """Tables, network and those of halves after the last finished round, if there is one."""
    last = run.folder / "network_last.safetensors"
    if not last.exists():
        return {name: pd.DataFrame() for name in TABLES}, None, []
    network, facts = load_network(last)
    tables = {name: getattr(run, name) for name in TABLES}
    with reading(run.folder, *PART_OF_A_RUN):
        done = int(facts["round"])
        tables = {name: t[t["round"] <= done].reset_index(drop=True) for name, t in tables.items()}
    pair = [load_network(path)[0] for path in sorted(run.folder.glob(f"half_?_{done}.safetensors"))]
    return tables, network, pair


def _save(
    run: Run,
    tables: dict[str, pd.DataFrame],
    network: AestheticNet,
    pair: list[AestheticNet],
    i: int,
    *,
    is_best: bool,
) -> None:
    for name in ("rounds", "per_class", "confusion"):
        with replacing(run.folder / f"{name}.csv") as partial:
            tables[name].to_csv(partial, index=False)
    with replacing(run.folder / "samples.parquet") as partial:
        tables["samples"].to_parquet(partial, index=False)
    conv1 = run.conv1() if i > 1 else {}
    for name, values in network.conv1.named_parameters():
        conv1[f"round_{i:02d}.{name}"] = values.detach().cpu().contiguous()
    with replacing(run.folder / "conv1.safetensors") as partial:
        save_file(conv1, partial)
    if is_best:
        save_network(network, run.folder / "network_best.safetensors", round=i)
    for n, of_other_half in enumerate(pair):
        save_network(of_other_half, run.folder / f"half_{n}_{i}.safetensors")
    save_network(network, run.folder / "network_last.safetensors", round=i)
    for old in run.folder.glob(f"half_?_{i - 1}.safetensors"):
        old.unlink()

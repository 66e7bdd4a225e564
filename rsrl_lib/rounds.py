"""The repetitive loop: train, judge all photos, drop, train on; saved after every round.

aestheticNet_1 is fine-tuned on all training photos. Then, round by round, the likelihoods of all
original training photos decide which of them the next network, started from the last, is trained
on. Everything a round knows is a row of a tidy table in the run's folder:

    run.json              recipe, seed, versions, device, fingerprint of photos and scores, and
                          notices: sentences for whoever runs it
    split.csv             photo, score, label (a rare score merged into its neighbour), part,
                          digest of the file
    rounds.csv            one row per round: photos kept, rescued, K (as likelihood and as logit),
                          loss, measures, chosen
    per_class.csv         one row per round, part and score; confusion.csv beside it
    samples.parquet       one row per round and photo: assigned score; logit and likelihood of the
                          assigned, own and top score; kept
    conv1.safetensors     round_01.weight, round_01.bias (where conv1 has one), ...
    network_best.safetensors, network_last.safetensors
    half_0_….safetensors, half_1_…   networks that saw one half only, where a control needs them

`network_last` is written last and names its round: a killed run goes on after that round and cuts
the tables back to it. Optimisers start anew each round and every random draw of a round comes
from (seed, round), so no other state is needed and tables and weights end up identical on one
processor. A finished run that is asked for more rounds goes on in the same way.
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
from scipy.special import logit
from torch import distributed

from rsrl_lib import controls
from rsrl_lib import measures as m
from rsrl_lib.drop_rules import Decision, largest_classes
from rsrl_lib.files import InputError, locked, reading, replacing
from rsrl_lib.network import AestheticNet, aesthetic_net, load_network, save_network
from rsrl_lib.notices import notices
from rsrl_lib.photos import ScoredPhotos, read_ours
from rsrl_lib.pixels import Pixels
from rsrl_lib.protocols import low_high, merge_rare, resplit, split
from rsrl_lib.recipe import Recipe, Training
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
ENDING = ("rounds", "stop", "loss_threshold", "patience")
"""Settings that say when a run ends and change no round; a run can be given others."""
PART_OF_A_RUN = ("part of a run", "train the run anew")


@dataclass(frozen=True)
class Run:
    """A run on disk; its tables are read when asked for."""

    folder: Path

    def _read(self, name: str, reader: Callable):
        with reading(self.folder / name, *PART_OF_A_RUN):
            return reader(self.folder / name)

    def _table(self, name: str) -> pd.DataFrame:
        return self._read(name, read_ours)

    @property
    def has_begun(self) -> bool:
        """Whether there is a finished round. Before, there is nothing to lose, and a corrected
        recipe may follow."""
        return (self.folder / "network_last.safetensors").exists()

    @property
    def info(self) -> dict:
        return self._read("run.json", lambda path: json.loads(path.read_text()))

    @property
    def view(self) -> dict[str, object]:
        """How the networks of the run look at photos, as `Training.view` says it.

        Whatever shows them a photo takes it from here: likelihoods, maps, highlights and crops.
        """
        with reading(self.folder / "run.json", *PART_OF_A_RUN):
            try:
                view = Training(**self.info["recipe"]["training"]).view
            except InputError as error:  # which does not say that it is the file's setting
                raise ValueError(error) from error
            side = view["shrink_to"]
            if side is not None and (type(side) is not int or side > 1024):
                raise ValueError(f"crops of {side} pixels")
        return view

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
        return _with_logits(self._read("samples.parquet", pd.read_parquet))

    @property
    def chosen(self) -> int:
        return int(self.rounds.set_index("round").chosen.idxmax())

    def network(self, which: Literal["best", "last"] = "best") -> AestheticNet:
        return load_network(self.folder / f"network_{which}.safetensors")[0]

    def conv1(self) -> dict[str, torch.Tensor]:
        return self._read("conv1.safetensors", load_file)


def open_run(folder: Path) -> Run:
    """A run that has at least one finished round; `InputError` where there is none."""
    if not Path(folder).is_dir():
        found = "is a file" if Path(folder).exists() else "is not there"
        raise InputError(f"{folder} {found}; give the folder of a run, as rsrl train makes one.")
    if not Run(Path(folder)).has_begun:
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
    on_start: Callable[[Run], None] = lambda run: None,
) -> Run:
    """Run the repetitive loop, or finish one that was interrupted; a finished run is returned.

    One that is asked for more rounds than it has (`rounds`, or a stop rule that goes farther) goes
    on, and ends as if it had been asked for them at once.
    `pixels` holds the photos of `photos` in the same order. `other` are unscored photos of another
    source (table with `photo`, their pixels): each round's network assigns them scores too
    (SSRL-2019 Table 3; part `other` of `samples`). `on_start` is called before the first round,
    when parts and recipe are on the disk. Raises `InputError` when the folder holds a run of
    another recipe, of other photos or of more rounds, or another process is at it.
    """
    folder = Path(folder)
    check_folder(folder)
    writes = team()[0] == 0  # of the processes of torchrun, the first
    count = torch.get_num_threads()
    there = Run(folder)
    if there.has_begun and not finished(there.rounds, recipe):
        count = threads_of(there.info)
    with locked(folder / "run.lock") if writes else nullcontext(), threads(count):
        run = _repeat(photos, pixels, folder, recipe, other, on_start, writes=writes)
    if team()[1] > 1:
        distributed.barrier()  # the others read what the first has written
    return run


def check_folder(folder: Path) -> None:
    """`InputError` where a folder holds other files and no run."""
    there = folder.iterdir() if folder.exists() else ()
    has_files = any(path.suffix not in (".partial", ".lock") for path in there)
    if has_files and not (folder / "run.json").exists():
        raise InputError(f"{folder} holds other files and no run; give a new or empty folder.")


def _repeat(
    photos: ScoredPhotos,
    pixels: Pixels,
    folder: Path,
    recipe: Recipe,
    other,
    on_start: Callable[[Run], None],
    *,
    writes: bool,
) -> Run:
    run = Run(folder)
    mean_scores = photos.table.mean_score.to_numpy()
    labels, merged, divided = _divided(run, photos, pixels, recipe)
    original = np.flatnonzero(divided == "train")
    attributes = soft_attributes(photos, recipe.attributes, original)
    weights = sample_weights(mean_scores, recipe.ambiguous, recipe.weights_ab)
    learned = np.column_stack([labels, weights, attributes])
    table = photos.table[["photo", "score"]].assign(label=labels, part=divided)
    table["digest"] = pixels.digests
    fingerprint = _fingerprints(photos, pixels, other, learned)
    if run.has_begun:
        _is_the_same(run, recipe, fingerprint, table)
    tables, network, pair = _resume(run)
    _can_go_on(run, recipe, tables["rounds"], pair)
    if writes and not (run.has_begun and run.info["recipe"] == _described(recipe)):
        said = notices(recipe, photos, pixels.digests, original, attributes)
        facts = {"fingerprint": fingerprint, "merged_scores": merged, "notices": said}
        _describe(run, recipe, facts, table)
    if writes:
        on_start(run)

    scores = np.unique(labels).tolist()
    view = recipe.training.view
    form = {"weights": recipe.weights, "seed": recipe.seed, "head": recipe.head}
    form["levels"] = ("low", "high") if recipe.levels == "low-high" else ()
    form["attributes"] = list(attributes)
    fresh = functools.partial(aesthetic_net, recipe.backbone, scores, **form)
    weights[original] *= controls.weights(recipe.control, labels[original])
    level_loss = controls.level_loss(recipe.control, labels[original])
    is_halved, redraws = recipe.control in controls.HALVED, recipe.control != "random-drop-same"
    groups = pixels.digests
    half = None
    if is_halved:
        of_train = None if groups is None else groups[original]
        half = controls.halves(labels[original], recipe.seed, of_train)

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

    while not finished(tables["rounds"], recipe):
        i = len(tables["rounds"]) + 1
        how = {"round": i, "seed": recipe.seed, "groups": groups}
        parts = resplit(divided, labels, recipe.resplit, **how)
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
                previous.own_logit.to_numpy(),
                previous.top_logit.to_numpy(),
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
        row |= _told(decision)
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


def _with_logits(samples: pd.DataFrame) -> pd.DataFrame:
    """Samples with the logits that runs of before lack, made of their likelihoods.

    Likelihoods are float32, so that all logits above about 17 come out alike, as infinite: such a
    run is read and goes on, but photos that it held for equally likely stay so.
    """
    for name in ("assigned", "own", "top"):
        if f"{name}_logit" not in samples:
            samples[f"{name}_logit"] = logit(samples[f"{name}_likelihood"].astype(np.float64))
    return samples


def _told(decision: Decision) -> dict[str, float]:
    """K of up to three majorities, as likelihoods and as the logits that decided."""
    none = [np.nan] * 3
    pairs = {"": decision.thresholds, "_logit": decision.logit_thresholds}
    return {
        f"k{n + 1}{kind}": value
        for kind, values in pairs.items()
        for n, value in enumerate([*values, *none][:3])
    }


def _fingerprints(photos: ScoredPhotos, pixels: Pixels, other, learned) -> dict[str, str]:
    scores = photos.table[["photo", "score"]].to_csv(index=False).encode() + learned.tobytes()
    return {
        "photos": pixels.fingerprint,
        "scores": hashlib.sha256(scores).hexdigest()[:16],
        "photos of another source": "none" if other is None else other[1].fingerprint,
    }


def _described(recipe: Recipe) -> dict:
    return json.loads(json.dumps(asdict(recipe)))


def _divided(
    run: Run, photos: ScoredPhotos, pixels: Pixels, recipe: Recipe
) -> tuple[np.ndarray, dict[int, int], pd.Series]:
    """Label of each photo, scores that were merged, and part; of a run that has begun, as it was.

    One that was begun when identical files could lie in two parts goes on as it began.
    """
    given = photos.table[["photo", "score"]].assign(digest=pixels.digests)
    if run.has_begun:
        known = run.split
        if known.reindex(columns=given.columns).astype(str).equals(given.astype(str)):
            return known.label.to_numpy(), run.info["merged_scores"], known.part
    if recipe.levels == "low-high":
        labels, merged = low_high(photos.table.mean_score.to_numpy(), recipe.cut), {}
        names = {0: "level low", 1: "level high"}
    else:
        labels, merged = merge_rare(photos.table.score.to_numpy(), groups=pixels.digests)
        names = None
    how = {"fold": recipe.fold, "seed": recipe.seed, "groups": pixels.digests, "names": names}
    return labels, merged, split(labels, **how)


def _is_the_same(
    run: Run, recipe: Recipe, fingerprint: dict[str, str], table: pd.DataFrame
) -> None:
    """`InputError` where the folder holds a run of another recipe, photos or scores."""
    there = run.info
    was, now = ({**r, **r["drop"], **r["training"]} for r in (there["recipe"], _described(recipe)))
    changes = [
        f"{k} {was.get(k)} there and {now[k]} now"
        for k in now
        if was.get(k) != now[k] and not isinstance(now[k], dict) and k not in ENDING
    ]
    if changes:
        raise InputError(
            f"{run.folder} holds a run of another recipe ({', '.join(changes)}); give another "
            "--run folder, or the recipe it was made with."
        )
    others = [name for name in fingerprint if there["fingerprint"][name] != fingerprint[name]]
    if others:
        known = ["photo", "score", "digest"]
        rows = pd.concat([run.split[known], table[known]]).drop_duplicates(keep=False)
        names = rows.photo.unique()
        named = f" ({len(names)} photos, first: {names[0]})" if len(names) else ""
        raise InputError(
            f"{run.folder} holds a run with different {' and '.join(others)}{named}; give another "
            "--run folder, or those it was made with."
        )


def _can_go_on(run: Run, recipe: Recipe, rounds: pd.DataFrame, pair: list[AestheticNet]) -> None:
    """`InputError` where a run has more rounds than it is asked for, or cannot have more."""
    done = len(rounds)
    if early := [n for n in range(1, done) if finished(rounds[:n], recipe)]:
        raise InputError(
            f"{run.folder} holds a run of {done} rounds, and one with rounds {recipe.rounds} and "
            f"stop {recipe.stop!r} ends after {early[0]}; ask for as many or more, or give another "
            "--run folder."
        )
    needs_halves = done > 0 and controls.reads_unseen(recipe.control, after_round=done)
    if needs_halves and not pair and not finished(rounds, recipe):
        raise InputError(
            f"{run.folder} holds a finished run of the control {recipe.control!r}, whose networks "
            f"of halves are not kept, so that it cannot have more than its {done} rounds; give "
            "another --run folder."
        )


def _describe(run: Run, recipe: Recipe, facts: dict[str, object], table: pd.DataFrame) -> None:
    """Make the run's folder its own; of a run that goes on, only its end and notices change."""
    info = {"recipe": _described(recipe), **facts, **machine(recipe.training.precision)}
    begun = run.has_begun
    if begun:
        info = run.info | {name: info[name] for name in ("recipe", "notices")}
    with replacing(run.folder / "run.json") as partial:
        partial.write_text(json.dumps(info, indent=1))
    if not begun:
        with replacing(run.folder / "split.csv") as partial:
            table.to_csv(partial, index=False)


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

"""The repetitive loop: train, judge all photos, drop, train on; saved as it goes.

aestheticNet_1 is fine-tuned on all training photos. Then, round by round, the likelihoods of all
original training photos decide which of them the next network, started from the last, is trained
on. `learn` is the method. What it knows of the photos is a `Dataset`, what it compares itself with
a `Control`, and what it leaves behind a `Record`; everything a round knows is a row of a tidy table
in the run's folder (see `runs`).
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rsrl_lib.backbones import Body, check_side, side_of
from rsrl_lib.controls import CONTROLS, Control, Judged, all_of, half_of_each
from rsrl_lib.dataset import Dataset, Strangers, make_dataset
from rsrl_lib.deciding import DecisionRule, fit_rule
from rsrl_lib.drop_rules import Decision, largest_classes, with_threshold
from rsrl_lib.dropped import told
from rsrl_lib.duration import WORTH_TELLING, Clock, expected, rehearse
from rsrl_lib.features import features
from rsrl_lib.files import InputError, in_words, locked, replacing
from rsrl_lib.heads import cross_fitted, fit_head, freeze, head_logits
from rsrl_lib.losses import LevelLoss, joint_loss, joint_targets
from rsrl_lib.machine import team, threads, threads_of, wait_for_all
from rsrl_lib.measures import of_attributes
from rsrl_lib.network import AestheticNet, aesthetic_net, renew_head
from rsrl_lib.notices import notices, of_division
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.pixels import Pixels
from rsrl_lib.protocols import fold_of_each
from rsrl_lib.provenance import provenance
from rsrl_lib.recipe import OWN, Recipe
from rsrl_lib.record import Record, check_same, chosen_of
from rsrl_lib.runs import Run, check_folder
from rsrl_lib.training import (
    fine_tune,
    judged_together,
    judgement,
    likelihoods,
    logits,
    logits_of_all_nodes,
)


def repeat(
    photos: ScoredPhotos,
    pixels: Pixels,
    folder: Path,
    recipe: Recipe,
    *,
    other: Strangers | None = None,
    body: Body | None = None,
    control: Control | None = None,
    on_start: Callable[[Run], None] = lambda run: None,
    say: Callable[[str], object] | None = None,
) -> Run:
    """Run the repetitive loop, or finish one that was interrupted; a finished run is returned.

    One that is asked for more rounds than it has (`rounds`, or a stop rule that goes farther) goes
    on, and ends as if it had been asked for them at once; but not where a control's networks of
    halves are needed, which a finished run does not keep.
    `pixels` holds the photos of `photos` in the same order. `other` are unscored photos of another
    source (table with `photo`, their pixels): each round's network assigns them scores too
    (SSRL-2019 Table 3; part `other` of `samples`). `body` is the module of your own that the
    backbone 'own' stands for; it stays as it is, a copy is trained. `control` is what the control
    'own' stands for: a drop rule, a loss or weights of your own. `on_start` is called before any
    round of this call, when parts and recipe are on the disk; `say` is then told how long it will
    take, which is rehearsed for that, and again after the first round. Raises `InputError` when the
    folder holds a run of another recipe, of other photos or of more rounds, or another process is
    at it, and for photos of another side than the backbone needs.
    """
    _check_control(control, recipe)
    side = side_of(recipe.backbone) if body is None else _checked(body, recipe).side
    for decoded in (pixels, *(other or ())[1:]):
        check_side(decoded.side, side, recipe.backbone)
    run = Run(Path(folder))
    check_folder(run.folder)
    goes_on = run.has_begun and not finished(run.rounds, recipe)
    count = threads_of(run.info) if goes_on else torch.get_num_threads()
    is_first = team()[0] == 0  # of several processes the one that writes
    lock = locked(run.folder / "run.lock") if is_first else nullcontext()
    with lock, threads(count):
        data = make_dataset(photos, pixels, recipe, run, other=other, control=control)
        recipe = with_share_to_keep(recipe, data)
        if run.has_begun:
            check_same(run, recipe, data)
        clock = Clock(recipe, say or (lambda sentence: None))
        record = Record(run, writes=is_first, body=body, on_round=clock.round_is_done)
        _check_can_go_on(record, recipe)
        if is_first and not record.knows(recipe):
            given = data.parts_are_given
            said = of_division(recipe, data.table, data.near, parts_are_given=given)
            said += notices(
                recipe, photos, pixels.digests, data.training_rows, data.attributes
            )
            record.describe(recipe, data, said, provenance(photos))
        if is_first:
            on_start(run)
        if say is not None and team()[1] == 1:  # others would have to rehearse, too
            say_expected(data, recipe, record, say)
        if recipe.tune != "head":  # where the features come before the first round
            clock.begun = time.perf_counter()
        with record:
            learn(data, recipe, record)
        tell_attributes(data, photos, recipe, run, body)
    wait_for_all()  # the others read what the first process has written
    return run


def learn(data: Dataset, recipe: Recipe, record: Record) -> None:
    """Go through the rounds of SSRL-2019 and RSRL, after those that are on record."""
    control = data.control
    network = record.network or untrained(data, recipe, record.body)
    data = with_features(data, network, recipe, record)
    halves = Halves(data, recipe, record.halves, record.body)

    while not finished(record.rounds, recipe):
        i = len(record.rounds) + 1
        parts = data.parts(recipe, i)
        original = np.flatnonzero(parts == "train")

        # Which of all the original photos does the next network learn from?
        if i == 1:
            decision = all_of(len(original))
        else:
            judged = judged_photos(data, recipe, record, original, halves.unseen())
            decision = control.keep(recipe.drop, judged)
        dropped = told(decision, data.table.iloc[original], i, record.dropped)

        # Train on, from the last network.
        if recipe.new_head and i > 1:
            renew_head(network, recipe.seed + i)
        conv1_before = _conv1_weight(network)
        learned_from, loss = train(network, data, original[decision.kept], recipe, i)
        halves.train(decision.kept, i)

        # Judge all photos, the dropped ones too, so that a photo can come back.
        own = all_logits(network, data, recipe)
        together = judged_together(
            [own, *record.last_logits(recipe.average - 1, data.scores)]
        )
        rule = decision_rule(together, data, recipe, parts, learned_from)
        samples = judged_samples(own, together, rule, data, parts, learned_from)
        facts = {
            "kept": int(samples.kept.sum()),
            "rescued": decision.rescued,
            **_thresholds(decision),
            "chosen": False,
            "conv1_change": _conv1_change(conv1_before, network),
            "loss": loss,
        }
        if recipe.decide != "largest":
            facts["power"] = rule.power
        networks = [network, *halves.networks]
        record.add(facts, samples, dropped, networks, rule, recipe)


def tell_attributes(
    data: Dataset,
    photos: ScoredPhotos,
    recipe: Recipe,
    run: Run,
    body: Body | None = None,
) -> None:
    """Write how well the chosen network tells the attributes it has learned, on the photos that are
    shown, unless that stands there already."""
    wait_for_all()  # each process is to see the same
    there = run.attributes
    is_told = there is not None and (there["round"] == run.chosen).all()
    if data.attributes.empty or is_told:
        return
    network = run.network(body=body)
    rows = np.flatnonzero(data.table.part == run.shown_part)
    of_nodes = logits_of_all_nodes(network, data.pixels, rows, **recipe.view)
    said = likelihoods(of_nodes[:, len(network.scores) :])
    table = of_attributes(
        pd.DataFrame(said, columns=network.attributes),
        data.attributes.iloc[rows].reset_index(drop=True),
        photos.attributes[list(data.attributes)].iloc[rows].reset_index(drop=True),
    )
    table.insert(1, "part", run.shown_part)
    table.insert(2, "round", run.chosen)
    wait_for_all()
    if team()[0] == 0:
        with replacing(run.folder / "attributes.csv") as partial:
            table.to_csv(partial, index=False)


def with_share_to_keep(recipe: Recipe, data: Dataset) -> Recipe:
    """The recipe, and where it says nothing of K, with the share of photos to keep."""
    drop = with_threshold(recipe.drop, data.labels[data.training_rows])
    return replace(recipe, drop=drop)


def say_expected(
    data: Dataset, recipe: Recipe, record: Record, say: Callable[[str], object]
) -> None:
    """Tell how long the rounds will take, where that is long enough to wait for."""
    if finished(record.rounds, recipe):
        return
    network = record.network or untrained(data, recipe, record.body)
    counts = {"training_photos": len(data.training_rows), "photos": len(data.pixels)}
    if data.other is not None:
        counts["photos"] += len(data.other[1])
    pace = rehearse(network, data.pixels, recipe)
    seconds = expected(pace, recipe, **counts, done=len(record.rounds))
    if seconds < WORTH_TELLING:
        return
    if recipe.tune == "head":
        say(f"Features take about {in_words(seconds)} here; the rounds come on top.")
    else:
        say(f"This will take about {in_words(seconds)} here, or less.")


def finished(rounds: pd.DataFrame, recipe: Recipe) -> bool:
    """Whether the stop rule ends a run after these rounds."""
    if not len(rounds):
        return False
    if len(rounds) >= recipe.rounds:
        return True
    if recipe.stop == "loss":
        loss = float(rounds.train_quadratic_loss.iloc[-1])
        return loss < recipe.loss_threshold
    if recipe.stop == "patience":
        return len(rounds) - chosen_of(rounds, recipe.choose) >= recipe.patience
    return False


def _checked(body: Body, recipe: Recipe) -> Body:
    """A module of one's own, which the recipe has to know of: its run is another one."""
    if recipe.backbone != OWN:
        raise InputError(
            f"A body is the backbone {OWN!r}, the recipe has {recipe.backbone!r}; give the recipe "
            f"backbone={OWN!r} and weights={OWN!r}, or leave the body out."
        )
    return body


def _check_control(control: Control | None, recipe: Recipe) -> None:
    """A control of one's own, which the recipe has to know of: its run is another one."""
    if (control is None) != (recipe.control != OWN):
        found = "without one" if control is None else f"with one and {recipe.control!r}"
        raise InputError(
            f"A control of your own goes with control={OWN!r} in the recipe, found is "
            f"{OWN if control is None else 'a recipe'} {found}; give both, or none."
        )


def untrained(data: Dataset, recipe: Recipe, body: Body | None = None) -> AestheticNet:
    """The network before round 1: transferred layers and a new head."""
    levels = ("low", "high") if recipe.levels == "low-high" else ()
    return aesthetic_net(
        body or recipe.backbone,
        data.scores,
        weights=recipe.weights,
        seed=recipe.seed,
        head=recipe.head,
        head_bias=recipe.head_bias,
        levels=levels,
        attributes=list(data.attributes),
    )


def with_features(
    data: Dataset, network: AestheticNet, recipe: Recipe, record: Record
) -> Dataset:
    """The photos with what the network's body sees in them, where a round needs the best head."""
    next_round = len(record.rounds) + 1
    if not fits_head(recipe, next_round) or finished(record.rounds, recipe):
        return data
    seen = features(network, data.pixels, **recipe.view)
    of_other = None
    if data.other is not None:
        _, other_pixels = data.other
        of_other = features(network, other_pixels, **recipe.view)
    rows = data.training_rows
    folds = fold_of_each(
        data.labels[rows],
        data.groups_of(rows),
        each_counts=data.groups_count_each,
    )
    targets = targets_of(data, rows, recipe)
    how = {"levels": len(data.scores), "level_loss": level_loss_of(data, recipe)}
    frozen = freeze(seen, of_other, rows, targets, folds, **how)
    return replace(data, frozen=frozen)


def fits_head(recipe: Recipe, i: int) -> bool:
    """Whether round `i` computes the best head, be it all of the round or its beginning."""
    return recipe.tune == "head" or (recipe.tune == "head-first" and i == 1)


def level_loss_of(data: Dataset, recipe: Recipe) -> LevelLoss:
    """Loss of the level, as the control has it for the original training photos."""
    control = data.control
    return control.level_loss(data.labels[data.training_rows])


def node_logits(
    network: AestheticNet,
    data: Dataset,
    recipe: Recipe,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """Logits (n, scores) of all photos, or of those at `rows`, by their features or pixels."""
    if recipe.tune != "head":
        return logits(network, data.pixels, rows, **recipe.view)
    seen = data.frozen.features
    return head_logits(network, seen if rows is None else seen[rows])


def targets_of(data: Dataset, rows: np.ndarray, recipe: Recipe) -> torch.Tensor:
    """What a network should say of the photos `rows`, as `joint_targets` packs it."""
    nodes = np.searchsorted(data.scores, data.labels[rows])
    return joint_targets(
        torch.from_numpy(nodes),
        data.weights[rows],
        data.attributes.to_numpy()[rows],
        literal=recipe.literal_weights,
    )


def train(
    network: AestheticNet, data: Dataset, rows: np.ndarray, recipe: Recipe, i: int
) -> tuple[np.ndarray, float]:
    """Fine-tune a network in place on the photos `rows` (n,) in round `i`.

    Returns the rows that it learned from (m,), which a control may draw from these, and the loss.
    """
    control = data.control
    seeds = np.random.SeedSequence([recipe.seed, i])
    labels = data.labels
    sampled = control.sample(labels[rows], np.random.default_rng(seeds))
    rows = rows[sampled]

    targets = targets_of(data, rows, recipe)
    level_loss = level_loss_of(data, recipe)
    if fits_head(recipe, i):
        how = {"level_loss": level_loss, "warm_start": i > 1}
        loss = fit_head(network, data.frozen, rows, targets, **how)
        if recipe.tune == "head":
            return rows, loss
    training = recipe.training
    if i == 1 and recipe.first_steps:
        training = replace(training, steps=recipe.first_steps)
    loss = fine_tune(
        network,
        data.pixels,
        rows,
        targets,
        training,
        loss=partial(joint_loss, level_loss=level_loss),
        seed=int(seeds.generate_state(1)[0]),
        title=f"round {i} of {recipe.rounds}, {len(rows)} photos",
    )
    return rows, loss


class Halves:
    """Two more networks that go through the rounds, each trained on one half of the photos.

    So each photo is judged by a network that has never seen it. They are trained only as long as
    the control asks them, and for most controls there are none.
    """

    def __init__(
        self,
        data: Dataset,
        recipe: Recipe,
        networks: list[AestheticNet],
        body: Body | None = None,
    ):
        self.data = data
        self.recipe = recipe
        self.networks = networks
        self.body = body
        self.rows = data.training_rows

    @cached_property
    def half(self) -> np.ndarray:
        """Half of each training photo (n,), 0 or 1."""
        labels = self.data.labels[self.rows]
        groups = self.data.groups_of(self.rows)
        return half_of_each(
            labels,
            self.recipe.seed,
            groups,
            each_counts=self.data.groups_count_each,
        )

    def train(self, kept: np.ndarray, i: int) -> None:
        """Train each on what is kept (n,) of the half that it does not judge.

        Nothing is trained where no later decision needs it.
        """
        control = self.data.control
        is_asked = control.reads_unseen(after_round=i)
        if i == self.recipe.rounds or not is_asked:
            self.networks = []
        elif i == 1:
            start = partial(untrained, self.data, self.recipe, self.body)
            self.networks = [start(), start()]
        for n, network in enumerate(self.networks):
            is_learned = kept & (self.half != n)
            rows = self.rows[is_learned]
            train(network, self.data, rows, self.recipe, i)

    def unseen(self) -> np.ndarray | None:
        """Logits (n, scores) of the training photos, each by the network that has not seen it."""
        if not self.networks:
            return None
        unseen = np.empty((len(self.rows), len(self.data.scores)), np.float32)
        for n, network in enumerate(self.networks):
            in_half = self.half == n
            rows = self.rows[in_half]
            unseen[in_half] = node_logits(network, self.data, self.recipe, rows)
        return unseen


def judged_photos(
    data: Dataset,
    recipe: Recipe,
    record: Record,
    original: np.ndarray,
    unseen: np.ndarray | None,
) -> Judged:
    """What the last network said of the original training photos, at positions `original` (n,)."""
    last = record.last_samples.iloc[original]
    labels = data.labels[original]
    kept = last.kept.to_numpy()
    reads_own = data.control.follows_rule
    if recipe.drop.judges == "cross-fitted" and reads_own:
        fitted = cross_fitted_logits(data, recipe, np.flatnonzero(kept))
        max1 = largest_classes(labels)[0]
        largest = DecisionRule(tuple(data.scores))
        last = judgement(largest, fitted, labels=labels, top_score=max1)
    return Judged(
        labels=labels,
        own=last.own_logit.to_numpy(),
        top=last.top_logit.to_numpy(),
        kept=kept,
        unseen=unseen,
        after_round=len(record.rounds),
        seed=recipe.seed,
    )


def cross_fitted_logits(
    data: Dataset, recipe: Recipe, learned: np.ndarray
) -> np.ndarray:
    """Logits (n, scores) of the training photos, each by a head that has not seen it.

    The heads learn from those at the positions `learned` (m,) among them.
    """
    rows = data.training_rows
    frozen = data.frozen
    targets = targets_of(data, rows, recipe)
    # As in a round, weights are scaled to mean 1 over the photos that are kept.
    targets[learned] = targets_of(data, rows[learned], recipe)
    return cross_fitted(
        frozen.features[rows],
        targets,
        learned,
        frozen.folds,
        frozen.frame,
        levels=len(data.scores),
        freedom=frozen.freedom,
        level_loss=level_loss_of(data, recipe),
    )


def all_logits(network: AestheticNet, data: Dataset, recipe: Recipe) -> np.ndarray:
    """Logits (n + m, scores) of all photos, then of those of another source."""
    of_photos = node_logits(network, data, recipe)
    if data.other is None:
        return of_photos
    _, pixels = data.other
    if recipe.tune == "head":
        of_other = head_logits(network, data.frozen.other)
    else:
        of_other = logits(network, pixels, **recipe.view)
    return np.concatenate([of_photos, of_other])


def decision_rule(
    together: np.ndarray,
    data: Dataset,
    recipe: Recipe,
    parts: pd.Series,
    learned_from: np.ndarray,
) -> DecisionRule:
    """How the logits of a round become scores, fitted on photos that it has not learned from.

    With tune='head' these are the training photos, cross-fitted, unless several rounds judge; else
    the validation photos, by the logits (n, scores) of the networks that judge `together`.
    """
    labels = data.labels
    rows = np.flatnonzero(parts == "validation")
    unseen = together[rows]
    judges_alone = recipe.tune == "head" and recipe.average == 1
    if judges_alone and recipe.decide != "largest":
        rows = data.training_rows
        learned = np.searchsorted(rows, learned_from)
        unseen = cross_fitted_logits(data, recipe, learned)
    return fit_rule(
        recipe.decide,
        unseen,
        labels[rows],
        scores=data.scores,
        mean_scores=data.mean_scores[rows],
        borders=data.borders,
        learned=labels[learned_from],
        weights=data.weights[learned_from],
        measure=recipe.decide_for,
    )


def judged_samples(
    own: np.ndarray,
    together: np.ndarray,
    rule: DecisionRule,
    data: Dataset,
    parts: pd.Series,
    learned_from: np.ndarray,
) -> pd.DataFrame:
    """What is said of every photo, of another source too: rows of `samples`.

    Scores are decided from the logits (n, scores) of the networks that judge `together`; the
    likelihoods are those of the last network's `own`.
    """
    count = len(data.labels)
    trained = data.labels[parts == "train"]
    max1 = largest_classes(trained)[0]
    samples = judgement(
        rule,
        own[:count],
        together=together[:count],
        labels=data.labels,
        top_score=max1,
    )
    samples = samples.assign(photo=data.table.photo, part=parts, kept=False)
    samples.loc[learned_from, "kept"] = True
    if data.other is None:
        return samples
    table, _ = data.other
    of_other = {"together": together[count:], "top_score": max1}
    strangers = judgement(rule, own[count:], **of_other)
    strangers = strangers.assign(photo=table.photo.to_numpy(), part="other", kept=False)
    return pd.concat([samples, strangers], ignore_index=True)


def relative_change(before: torch.Tensor, after: torch.Tensor) -> float:
    """How far weights have moved, by the length of the change over theirs."""
    change = after - before
    return float(change.norm() / before.norm())


def _conv1_weight(network: AestheticNet) -> torch.Tensor | None:
    """A copy in one memory order: a trained and a read network differ in theirs, and so would
    the last digit of a sum over the weights. None where there is no such layer."""
    if network.conv1 is None:
        return None
    weight = network.conv1.weight.detach().cpu()
    return weight.clone(memory_format=torch.contiguous_format)


def _conv1_change(before: torch.Tensor | None, network: AestheticNet) -> float:
    """How far conv1 has moved; NaN where there is none."""
    if before is None:
        return float("nan")
    return relative_change(before, _conv1_weight(network))


def _thresholds(decision: Decision) -> dict[str, float]:
    """K of up to three majorities, as likelihoods and as the logits that decided."""
    none = [np.nan] * 3
    k1, k2, k3 = [*decision.thresholds, *none][:3]
    logit1, logit2, logit3 = [*decision.logit_thresholds, *none][:3]
    return {
        "k1": k1,
        "k2": k2,
        "k3": k3,
        "k1_logit": logit1,
        "k2_logit": logit2,
        "k3_logit": logit3,
    }


def _check_can_go_on(record: Record, recipe: Recipe) -> None:
    """`InputError` where a run has more rounds than it is asked for, or cannot have more."""
    folder = record.run.folder
    rounds = record.rounds
    done = len(rounds)
    for n in range(1, done):
        if finished(rounds[:n], recipe):
            raise InputError(
                f"{folder} holds a run of {done} rounds, and one with rounds {recipe.rounds} and "
                f"stop {recipe.stop!r} ends after {n}; ask for as many or more, or give another "
                "--run folder."
            )
    if not done or finished(rounds, recipe):
        return
    needs_halves = CONTROLS[recipe.control].reads_unseen(after_round=done)
    if needs_halves and not record.halves:
        raise InputError(
            f"{folder} holds a finished run of the control {recipe.control!r}, whose networks "
            f"of halves are not kept, so that it cannot have more than its {done} rounds; give "
            "another --run folder."
        )

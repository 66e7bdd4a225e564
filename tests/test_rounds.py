import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from rsrl_lib import dataset, measures, record, rounds, runs
from rsrl_lib.drop_rules import DropRule, decide, largest_classes
from rsrl_lib.files import InputError, locked
from rsrl_lib.losses import joint_loss, joint_targets
from rsrl_lib.network import Snapshot
from rsrl_lib.pixels import Pixels
from rsrl_lib.recipe import Recipe, Training
from tests.conftest import broken_off

RECIPE = Recipe(
    backbone="squeezenet1_1",
    weights="none",
    rounds=3,
    drop=DropRule(keep_share=0.7, min_per_class=2),
    training=Training(learning_rate=1e-3, epochs=2, batch=12),
)
TABLES = ("split.csv", "rounds.csv", "per_class.csv", "confusion.csv", "samples.parquet")


def altered(**changes):
    return Recipe(**{**RECIPE.__dict__, **changes})


def lasting(run):
    """What run.json says but for date and command, which differ between any two runs."""
    return {name: value for name, value in run.info.items() if name != "provenance"}


def contents(folder):
    return {name: (folder / name).read_bytes() for name in TABLES}


pytestmark = pytest.mark.usefixtures("small_crops")


@pytest.fixture(scope="module")
def run(coloured, small_crops, tmp_path_factory):
    return rounds.repeat(*coloured, tmp_path_factory.mktemp("runs") / "run", RECIPE)


def test_every_round_has_its_measures_on_every_part(run):
    table = run.rounds
    assert list(run.split) == ["photo", "score", "label", "part", "digest"]
    assert table["round"].tolist() == [1, 2, 3]
    assert {"kept", "rescued", "chosen", "conv1_change", "loss"} <= set(table)
    measured = ("accuracy", "majority_accuracy", "macro_f1", "total_f", "balanced_accuracy")
    measured += ("kappa", "macro_mae", "quadratic_loss", "spearman")
    named = {f"{part}_{name}" for part in record.PARTS for name in measured}
    assert named <= set(table)
    assert (table.conv1_change > 0).all()


def test_dropping_the_same_at_random_leaves_out_in_a_round_what_was_left_out_before(
    coloured, tmp_path
):
    out = {}
    for control in ("random-drop-same", "random-drop"):
        run = rounds.repeat(*coloured, tmp_path / control, altered(control=control))
        train = run.samples.query("part == 'train'")
        kept = train.pivot(index="photo", columns="round", values="kept")
        labels = train.groupby("photo").label.first()
        out[control] = (~kept[2] & ~kept[3]).groupby(labels).sum()
        either = (~kept[[2, 3]]).groupby(labels).sum().min(axis=1)
        assert kept[1].all()
        assert either.any()
        if control == "random-drop-same":
            assert (out[control] == either).all()
    assert out["random-drop"].sum() < out["random-drop-same"].sum()


def test_the_measures_of_a_round_are_those_of_its_samples(run):
    sample = run.samples.query("round == 2 and part == 'test'")
    scores = run.network("last").scores
    expected = measures.measures(sample.label.to_numpy(int), sample.assigned.to_numpy(), scores)
    row = run.rounds.set_index("round").loc[2]
    assert row[[f"test_{k}" for k in expected]].tolist() == pytest.approx(
        list(expected.values()), nan_ok=True
    )
    assert run.confusion.query("round == 2 and part == 'test'").photos.sum() == len(sample)


def test_a_round_is_trained_on_what_the_rule_keeps_of_all_original_training_photos(run):
    train = run.samples[run.samples.part == "train"]
    first, second = train[train["round"] == 1], train[train["round"] == 2]
    assert first.kept.all()
    decision = decide(
        RECIPE.drop,
        first.label.to_numpy(int),
        first.own_logit.to_numpy(),
        first.top_logit.to_numpy(),
        after_round=1,
    )
    assert second.kept.tolist() == decision.kept.tolist()
    assert 0 < decision.kept.sum() < len(first)
    assert run.rounds.kept.tolist()[1] == decision.kept.sum()


def without_logits(folder):
    """Make a run's tables what they were before logits were kept."""
    for name, (read, write) in {
        "samples.parquet": (pd.read_parquet, pd.DataFrame.to_parquet),
        "rounds.csv": (pd.read_csv, pd.DataFrame.to_csv),
    }.items():
        table = read(folder / name)
        table = table.drop(columns=list(table.filter(regex="_logit$")))
        write(table, folder / name, index=False)


def test_a_run_made_before_logits_were_kept_is_read_and_goes_on(run, coloured, tmp_path):
    made = rounds.repeat(*coloured, tmp_path / "run", altered(rounds=2))
    without_logits(made.folder)
    read, known = made.samples, run.samples[run.samples["round"] <= 2]
    names = ["assigned_logit", "own_logit", "top_logit"]
    assert np.allclose(read[names], known[names], atol=1e-3)
    gone_on = rounds.repeat(*coloured, made.folder, RECIPE)
    assert gone_on.samples.kept.tolist() == run.samples.kept.tolist()
    assert gone_on.rounds.test_accuracy.tolist() == run.rounds.test_accuracy.tolist()


def test_k_is_told_as_likelihood_and_as_logit(run):
    table = run.rounds
    assert table[["k1", "k1_logit"]].iloc[0].isna().all()
    assert np.allclose(table.k1[1:], 1 / (1 + np.exp(-table.k1_logit[1:])))
    train = run.samples.query("part == 'train' and round == 2")
    before = run.samples.query("part == 'train' and round == 1")
    own = before.own_logit[before.label.isin(largest_classes(before.label.to_numpy(int)))]
    assert table.k1_logit[1] in own.to_numpy()
    others = len(before) - len(own)
    assert (own >= table.k1_logit[1]).sum() + table.rescued[1] + others == train.kept.sum()


def test_a_dropped_photo_can_come_back(run):
    kept = run.samples.query("part == 'train'").pivot(index="photo", columns="round", values="kept")
    assert (~kept[2] & kept[3]).any()


def test_no_photo_of_the_other_parts_is_ever_trained_on(run):
    assert not run.samples[run.samples.part != "train"].kept.any()


def test_the_chosen_round_has_the_best_total_f_on_the_photos_named_for_it(run, coloured, tmp_path):
    table = run.rounds
    assert run.chosen == table["round"][table.validation_total_f.argmax()]
    by_test = rounds.repeat(*coloured, tmp_path / "run", altered(choose="test")).rounds
    assert (
        by_test["round"][by_test.chosen].item() == by_test["round"][by_test.test_total_f.argmax()]
    )
    # The split and the training are the same whatever chooses.
    assert by_test.drop(columns="chosen").equals(table.drop(columns="chosen"))


def test_conv1_of_every_round_is_kept_and_the_best_and_last_network_whole(run):
    conv1 = run.conv1()
    assert sorted(conv1) == [f"round_0{i}.{p}" for i in (1, 2, 3) for p in ("bias", "weight")]
    assert torch.equal(conv1["round_03.weight"], run.network("last").conv1.weight)
    best = conv1[f"round_{run.chosen:02d}.weight"]
    assert torch.equal(best, run.network("best").conv1.weight)
    change = (conv1["round_03.weight"] - conv1["round_02.weight"]).norm()
    relative = change / conv1["round_02.weight"].norm()
    assert run.rounds.conv1_change[2] == pytest.approx(relative.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("module", "stage"),
    [
        (rounds, "fine_tune"),
        (rounds, "judgement"),
        (record, "save_file"),
        (Snapshot, "save"),
    ],
)
@pytest.mark.usefixtures("every_round_is_written")
def test_a_run_that_broke_off_anywhere_ends_with_identical_tables(
    run, coloured, tmp_path, module, stage
):
    in_the_second_round = 3 if stage == "save" else 2
    with broken_off(module, stage, in_the_second_round):
        rounds.repeat(*coloured, tmp_path / "run", RECIPE)
    resumed = rounds.repeat(*coloured, tmp_path / "run", RECIPE)
    assert contents(resumed.folder) == contents(run.folder)
    assert torch.equal(resumed.network().head.weight, run.network().head.weight)


@pytest.mark.parametrize("share", [0.0, 1e9], ids=["together", "each at once"])
def test_short_rounds_are_written_together_and_nothing_differs(
    run, coloured, tmp_path, monkeypatch, share
):
    files, real = [], Snapshot.save
    monkeypatch.setattr(record, "SHARE_OF_WRITING", share)
    monkeypatch.setattr(Snapshot, "save", lambda shot, path: files.append(path) or real(shot, path))
    made = rounds.repeat(*coloured, tmp_path / "run", RECIPE)
    assert contents(made.folder) == contents(run.folder)
    for which in ("best", "last"):
        ours, theirs = made.network(which).state_dict(), run.network(which).state_dict()
        assert all(values.equal(theirs[name]) for name, values in ours.items())
    assert made.conv1().keys() == run.conv1().keys()
    assert files.count(made.last) == (3 if share else 2)
    assert files[-1] == made.last


def test_rounds_that_wait_to_be_written_are_not_lost_to_a_later_one(
    run, coloured, tmp_path, monkeypatch
):
    monkeypatch.setattr(record, "SHARE_OF_WRITING", 0.0)
    with broken_off(rounds, "fine_tune", 3):
        rounds.repeat(*coloured, tmp_path / "run", RECIPE)
    begun = runs.Run(tmp_path / "run")
    assert begun.rounds["round"].tolist() == [1, 2]
    best = begun.conv1()[f"round_{begun.chosen:02d}.weight"]
    assert torch.equal(best, begun.network("best").conv1.weight)
    rounds.repeat(*coloured, tmp_path / "run", RECIPE)
    assert contents(begun.folder) == contents(run.folder)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"seed": -1}, r"seed must lie in 0\.\.4294967295, not -1"),
        ({"first_steps": 0}, "first_steps must be 1 or more, not 0"),
        ({"training": Training(shrink_to=48)}, "shrink_to must be 64 or more, not 48"),
        (
            {"backbone": "resnet18", "training": Training(shrink_to=32)},
            "shrink_to must be 33 or more, not 32",
        ),
        ({"levels": "lowhigh"}, "levels must be one of scores, low-high, not 'lowhigh'"),
        ({"resplit": "Fresh"}, "resplit must be one of never, fresh, rotating"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(wrong, says):
    with pytest.raises(InputError, match=says):
        Recipe(**wrong)


def test_a_damaged_description_of_a_run_is_named(run, coloured, tmp_path):
    damaged = shutil.copytree(run.folder, tmp_path / "run")
    (damaged / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json is no readable part of a run"):
        rounds.repeat(*coloured, damaged, RECIPE)


def test_a_run_says_how_its_networks_look_at_photos_or_that_it_cannot_be_known(run, tmp_path):
    assert run.view == RECIPE.training.view
    info = run.info
    for wrong in (5000, 64.5, "64"):
        info["recipe"]["training"]["shrink_to"] = wrong
        (tmp_path / "run.json").write_text(json.dumps(info))
        with pytest.raises(InputError, match=r"run\.json is no readable part of a run"):
            _ = runs.Run(tmp_path).view


def test_a_run_of_crops_that_are_too_small_for_alexnet_is_read(run, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "run")
    info = run.info
    info["recipe"]["training"]["shrink_to"] = 48
    (folder / "run.json").write_text(json.dumps(info))
    assert runs.Run(folder).view["shrink_to"] == 48


def test_a_finished_run_is_returned_without_training(run, coloured, monkeypatch):
    monkeypatch.setattr(rounds, "fine_tune", None)
    before = contents(run.folder)
    rounds.repeat(*coloured, run.folder, RECIPE)
    assert contents(run.folder) == before


@pytest.mark.parametrize(
    ("ended", "longer"),
    [
        ({"rounds": 1}, {}),
        ({"rounds": 2}, {}),
        ({"rounds": 9, "stop": "loss", "loss_threshold": 99.0}, {}),
        ({"rounds": 2}, {"stop": "loss", "loss_threshold": 0.0}),
        ({"rounds": 2}, {"stop": "patience", "patience": 3}),
    ],
)
def test_a_finished_run_asked_for_more_rounds_ends_as_if_it_had_been_asked_at_once(
    run, coloured, tmp_path, ended, longer
):
    first = rounds.repeat(*coloured, tmp_path / "run", altered(**ended))
    assert len(first.rounds) < 3
    began = lasting(first)
    made = rounds.repeat(*coloured, first.folder, altered(**longer))
    assert contents(made.folder) == contents(run.folder)
    for which in ("best", "last"):
        assert torch.equal(made.network(which).head.weight, run.network(which).head.weight)
    assert made.conv1().keys() == run.conv1().keys()
    assert made.info["recipe"] == json.loads(json.dumps(dataclasses.asdict(altered(**longer))))
    assert {**lasting(made), "recipe": 0, "notices": 0} == {**began, "recipe": 0, "notices": 0}
    if not longer:
        assert lasting(made) == lasting(run)


def test_a_run_killed_while_it_is_given_more_rounds_goes_on(run, coloured, tmp_path, monkeypatch):
    folder = rounds.repeat(*coloured, tmp_path / "run", altered(rounds=2)).folder
    before_and_after_the_new_recipe_is_written = [
        (record.Record, "describe"),
        (rounds, "fine_tune"),
    ]
    for owner, stage in before_and_after_the_new_recipe_is_written:
        with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr(owner, stage, lambda *_, **__: 1 / 0)
            rounds.repeat(*coloured, folder, RECIPE)
        assert len(runs.Run(folder).rounds) == 2
    rounds.repeat(*coloured, folder, altered(rounds=2))  # which still has what it had
    assert contents(rounds.repeat(*coloured, folder, RECIPE).folder) == contents(run.folder)


@pytest.mark.parametrize(
    ("fewer", "ends_after"),
    [
        ({"rounds": 2}, 2),
        ({"rounds": 1}, 1),
        ({"stop": "loss", "loss_threshold": 99.0}, 1),
    ],
)
def test_a_run_of_more_rounds_than_asked_for_is_refused_and_stays(run, coloured, fewer, ends_after):
    before, info = contents(run.folder), run.info
    with pytest.raises(InputError, match=rf"a run of 3 rounds, .* ends after {ends_after}; ask"):
        rounds.repeat(*coloured, run.folder, altered(**fewer))
    assert contents(run.folder) == before
    assert run.info == info


def test_a_finished_run_whose_networks_of_halves_are_gone_cannot_have_more(coloured, tmp_path):
    recipe = altered(control="cross-fitted", rounds=2)
    made = rounds.repeat(*coloured, tmp_path / "run", recipe)
    before, info = contents(made.folder), made.info
    with pytest.raises(InputError, match=r"'cross-fitted', whose networks of halves are not kept"):
        rounds.repeat(*coloured, made.folder, replace(recipe, rounds=3))
    assert contents(made.folder) == before
    assert made.info == info
    rounds.repeat(*coloured, made.folder, recipe)


def test_another_recipe_and_other_scores_are_refused_for_the_same_folder(run, coloured):
    with pytest.raises(InputError, match=r"another recipe.*seed 0 there and 7 now"):
        rounds.repeat(*coloured, run.folder, altered(seed=7))
    with pytest.raises(InputError, match=r"another recipe \(weights_ab \[1.0, 1.0\] there and"):
        rounds.repeat(*coloured, run.folder, altered(weights_ab=(1.0, 7.0)))
    photos, pixels = coloured
    other = photos.select(np.arange(len(photos)))
    other.table["score"] = other.table.score.replace({2: 3})
    with pytest.raises(
        InputError, match=r"different scores \(6 photos, first: 00\.png\); give another"
    ):
        rounds.repeat(other, pixels, run.folder, RECIPE)


def test_a_recipe_that_could_not_start_can_be_corrected_in_the_same_folder(coloured, tmp_path):
    with pytest.raises(InputError, match="There are no weights"):
        rounds.repeat(*coloured, tmp_path / "run", altered(weights="nothing"))
    corrected = rounds.repeat(*coloured, tmp_path / "run", altered(rounds=1))
    assert corrected.info["recipe"]["weights"] == "none"


def test_a_run_over_another_source_is_not_taken_for_one_without(run, coloured):
    photos, pixels = coloured
    other = (photos.table[["photo", "path"]], pixels)
    with pytest.raises(InputError, match="different photos of another source"):
        rounds.repeat(*coloured, run.folder, RECIPE, other=other)


def test_a_first_layer_without_a_bias_is_kept_as_it_is(coloured, tmp_path):
    made = rounds.repeat(*coloured, tmp_path / "run", altered(rounds=1, backbone="resnet18"))
    assert list(made.conv1()) == ["round_01.weight"]


def test_a_folder_with_other_files_is_refused(coloured, tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="holds other files and no run"):
        rounds.repeat(*coloured, tmp_path, RECIPE)


def test_photos_of_another_source_are_assigned_scores_in_every_round(coloured, tmp_path):
    photos, pixels = coloured
    backwards = np.arange(60)[::-1]
    table = photos.table[["photo", "path"]].iloc[backwards]
    other = (table, Pixels(pixels.array[backwards]))
    made = rounds.repeat(*coloured, tmp_path / "run", altered(rounds=2), other=other)
    there = made.samples[made.samples.part == "other"]
    assert there.groupby("round").size().tolist() == [60, 60]
    assert there.label.isna().all()
    own = made.samples[made.samples.part != "other"]
    for number in (1, 2):
        of_other = there[there["round"] == number]
        of_own = own[own["round"] == number][::-1]
        assert of_other.assigned.tolist() == of_own.assigned.tolist()
        assert np.allclose(of_other.top_logit, of_own.top_logit, atol=1e-5)


def test_the_run_records_what_its_numbers_depend_on(run):
    info = run.info
    assert info["recipe"]["weights"] == "none"
    assert info["recipe"]["drop"]["keep_share"] == 0.7
    assert info["versions"]["torch"] == torch.__version__
    assert len(info["fingerprint"]["photos"]) == 16


ROUNDS = pd.DataFrame(
    {
        "train_quadratic_loss": [2.0, 1.0, 0.4, 0.3, 0.2],
        "validation_total_f": [1.0, 2.0, 1.5, 1.5, 1.5],
        "test_total_f": [1.0, 1.1, 1.2, 1.3, 1.4],
    }
)


@pytest.mark.parametrize(
    ("recipe", "ends_after"),
    [
        (altered(rounds=5), 5),
        (altered(rounds=9, stop="loss", loss_threshold=0.5), 3),
        (altered(rounds=2, stop="loss", loss_threshold=0.5), 2),
        (altered(rounds=9, stop="patience", patience=2), 4),
        (altered(rounds=5, stop="patience", patience=2, choose="test"), 5),
    ],
)
def test_each_stop_rule_ends_where_it_says(recipe, ends_after):
    over = [rounds.finished(ROUNDS[:n], recipe) for n in range(6)]
    assert over.index(True) == ends_after


KILLED = """
from pathlib import Path
from rsrl_lib import pixels, rounds, sources
from tests.test_rounds import RECIPE
pixels.CROP = 67
folder = Path({folder!r})
scored = sources.read_folder(folder, folder / "scores.csv")
decoded, _ = pixels.decode(scored.table, cache=folder / "cache")
print("ready", flush=True)
rounds.repeat(scored, decoded, folder / "run", RECIPE)
"""


def test_a_run_killed_by_sigkill_goes_on_from_its_last_finished_round(run, tmp_path):
    from tests.conftest import ROOT, draw_coloured_photos

    draw_coloured_photos(tmp_path)
    command = [sys.executable, "-c", KILLED.format(folder=str(tmp_path))]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL)
    while not (tmp_path / "run" / "network_last.safetensors").exists():
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert len(pd.read_csv(tmp_path / "run" / "rounds.csv")) < 3
    subprocess.run(command, env=environment, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    assert contents(tmp_path / "run") == contents(run.folder)
    assert lasting(runs.Run(tmp_path / "run")) == lasting(run)


def test_a_run_that_broke_off_is_finished_by_as_many_threads_as_it_was_begun_by(
    run, coloured, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    runs.Run(folder).rounds[:1].to_csv(folder / "rounds.csv", index=False)
    described = run.info | {"threads": 3}
    (folder / "run.json").write_text(json.dumps(described))
    used = []
    monkeypatch.setattr(rounds, "threads_of", lambda machine: machine["threads"])
    monkeypatch.setattr(
        rounds, "finished", lambda *_: used.append(torch.get_num_threads()) or used[1:]
    )
    before = torch.get_num_threads()
    rounds.repeat(*coloured, folder, RECIPE)
    assert used[-1] == 3
    assert torch.get_num_threads() == before


def test_how_far_conv1_moved_does_not_depend_on_the_memory_order_of_a_read_network(run):
    network = run.network("last")
    read = rounds._conv1_weight(network)
    trained = rounds._conv1_weight(network.to(memory_format=torch.channels_last))
    assert read.stride() == trained.stride()
    assert read.norm().item() == trained.norm().item()


@pytest.fixture(scope="module")
def described(coloured):
    """The coloured photos with mean scores, an attribute of their own and an unknown one."""
    photos, pixels = coloured
    table = photos.table.assign(mean_score=photos.table.score + np.linspace(-0.4, 0.4, 60))
    attributes = pd.DataFrame({"blue": (photos.table.score == 4) * 1.0, "none": np.nan})
    return replace(photos, table=table, attributes=attributes.set_index(table.photo)), pixels


AES_ATT_CNN_W = {
    "backbone": "alexnet",
    "head": "gap",
    "levels": "low-high",
    "cut": 3.5,
    "attributes": ("blue",),
    "ambiguous": (3.2, 4.0),
    "weights_ab": (1, 7),
    "rounds": 2,
    "drop": DropRule(k=(0.2,)),
    "training": Training(optimiser="sgd", decay="tenths", crops="five", epochs=1, batch=12),
}


def test_a_gap_network_with_levels_weights_and_attributes_is_a_run_like_any_other(
    described, tmp_path
):
    made = rounds.repeat(*described, tmp_path / "run", altered(**AES_ATT_CNN_W))
    network = made.network("last")
    assert (network.kind, network.levels, network.attributes) == ("gap", ["low", "high"], ["blue"])
    high = (described[0].table.mean_score > 3.5).astype(int)
    assert made.split.label.tolist() == high.tolist()
    assert made.rounds["round"].tolist() == [1, 2] and made.rounds.conv1_change.min() > 0
    assert set(made.per_class.score) == {0, 1}
    again = rounds.repeat(*described, tmp_path / "run", altered(**AES_ATT_CNN_W))
    assert again.rounds.equals(made.rounds)


def test_an_untagged_photo_is_unknown_or_has_none_of_the_attributes(described, tmp_path):
    photos, pixels = described
    tags = photos.attributes.copy()
    tags.iloc[::2, 0] = np.nan
    untagged = replace(photos, attributes=tags)
    targets = {}
    for how in ("unknown", "none"):
        recipe = altered(**AES_ATT_CNN_W, untagged=how)
        data = dataset.make_dataset(untagged, pixels, recipe, runs.Run(tmp_path))
        rows = data.training_rows
        targets[how] = rounds.targets_of(data, rows, recipe)[:, 2].numpy()
    is_untagged = tags.blue.isna().to_numpy()[rows]
    assert np.isnan(targets["unknown"][is_untagged]).all()
    assert (targets["none"][is_untagged] == 0).all()
    tagged = tags.blue.to_numpy()[rows][~is_untagged]
    for values in targets.values():
        assert (values[~is_untagged] == tagged).all()
    levels = torch.zeros(len(rows), dtype=torch.int64)
    logits = torch.zeros(len(rows), 3)
    losses = []
    for values in targets.values():
        packed = joint_targets(levels, np.ones(len(rows)), values[:, None])
        losses.append(joint_loss(logits, packed).item())
    # At a logit of 0 each known target adds log 2: eq. 3 counts those of untagged photos too.
    assert losses[1] - losses[0] == pytest.approx(np.log(2) * is_untagged.mean(), rel=1e-5)


def test_a_run_without_a_bias_goes_on_without_it(described, tmp_path):
    recipe = altered(**AES_ATT_CNN_W | {"rounds": 1}, head_bias=False)
    first = rounds.repeat(*described, tmp_path / "run", recipe)
    assert not any("head.bias" in name for name in first.network().state_dict())
    again = rounds.repeat(*described, tmp_path / "run", replace(recipe, rounds=2))
    assert len(again.rounds) == 2 and not again.network("last").head_bias
    with pytest.raises(InputError, match="head_bias False there and True now"):
        rounds.repeat(*described, tmp_path / "run", altered(**AES_ATT_CNN_W))


@pytest.mark.parametrize("tune", ["head", "head-first"])
def test_the_best_head_has_a_bias(tune):
    with pytest.raises(InputError, match=f"without a bias needs tune 'all', found is '{tune}'"):
        altered(tune=tune, head_bias=False)


def test_a_round_learns_from_the_weights_and_attributes_of_the_photos_it_is_trained_on(
    described, tmp_path, monkeypatch
):
    seen = {}

    def looks(network, pixels, rows, targets, *args, **options):
        seen.update(rows=rows, targets=targets.numpy())
        return real(network, pixels, rows, targets, *args, **options)

    real = rounds.fine_tune
    monkeypatch.setattr(rounds, "fine_tune", looks)
    rounds.repeat(*described, tmp_path / "run", altered(**AES_ATT_CNN_W | {"rounds": 1}))
    table = described[0].table.iloc[seen["rows"]]
    weights = np.where(table.mean_score.between(3.2, 4.0, inclusive="neither"), 1, 7)
    assert set(weights) == {1, 7}
    expected = [table.mean_score > 3.5, weights / weights.mean(), table.score == 4]
    assert np.allclose(seen["targets"], np.stack(expected, 1))


def test_other_mean_scores_or_attributes_are_other_photos_where_they_are_learned(
    described, tmp_path
):
    photos, pixels = described
    recipe = altered(**AES_ATT_CNN_W | {"rounds": 1})
    rounds.repeat(photos, pixels, tmp_path / "run", recipe)
    other = replace(photos, attributes=1 - photos.attributes)
    with pytest.raises(InputError, match="a run with different scores"):
        rounds.repeat(other, pixels, tmp_path / "run", recipe)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"attributes": ("sharp",)}, "attribute 'sharp' is needed, known .* photos are blue;"),
        ({"attributes": ("none",)}, "attribute 'none' is needed, known .* photos are blue;"),
        ({"cut": 9.0}, r"Two levels are needed.*on one side of the cut 9; move it"),
        ({"ambiguous": (0, 9), "weights_ab": (0, 1)}, "all 38 training photos are ambiguous"),
    ],
)
def test_a_network_that_the_photos_cannot_teach_is_refused(described, tmp_path, changes, says):
    with pytest.raises(InputError, match=says):
        rounds.repeat(*described, tmp_path / "run", altered(**AES_ATT_CNN_W | changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ambiguous": (6, 4)}, r"ambiguous must be a lower and a higher score, not \(6, 4\)"),
        ({"weights_ab": (0, 0)}, r"weights_ab must be 0 or more, not both 0, not \(0, 0\)"),
        ({"weights_ab": (-1, 7)}, "weights_ab must be 0 or more"),
    ],
)
def test_weights_that_cannot_be_learned_from_are_refused(changes, says):
    with pytest.raises(InputError, match=says):
        altered(**changes)


@pytest.mark.parametrize("how", ["fresh", "rotating"])
def test_a_run_that_divides_its_photos_anew_trains_on_those_it_reported_on(coloured, tmp_path, how):
    run = rounds.repeat(*coloured, tmp_path / "run", altered(resplit=how))
    parts = run.samples.pivot(index="photo", columns="round", values="part")
    kept = run.samples.pivot(index="photo", columns="round", values="kept")
    assert (parts.eq("test").nunique(axis=1) == 1).all()
    assert not kept[parts != "train"].fillna(False).any(axis=None)
    later = kept[3][parts[1] == "validation"]
    assert later.any()
    dropped = (parts[2] == "train") & ~kept[2]
    assert dropped.any()


def test_a_run_that_divides_its_photos_anew_resumes_with_identical_tables(
    coloured, tmp_path, monkeypatch
):
    recipe = altered(resplit="fresh")
    whole = rounds.repeat(*coloured, tmp_path / "whole", recipe)
    real = rounds.finished
    monkeypatch.setattr(rounds, "finished", lambda table, r: len(table) == 2 or real(table, r))
    rounds.repeat(*coloured, tmp_path / "run", recipe)
    monkeypatch.undo()
    resumed = rounds.repeat(*coloured, tmp_path / "run", recipe)
    assert contents(resumed.folder) == contents(whole.folder)


def test_dividing_anew_goes_with_no_control():
    with pytest.raises(InputError, match="'fresh' goes with no control, found is 'focal'"):
        altered(resplit="fresh", control="focal")


def test_a_folder_that_another_process_writes_to_is_refused_and_nothing_is_lost(run, coloured):
    before = contents(run.folder)
    with (
        locked(run.folder / "run.lock"),
        pytest.raises(InputError, match="is being written by another process"),
    ):
        rounds.repeat(*coloured, run.folder, RECIPE)
    assert contents(run.folder) == before
    rounds.repeat(*coloured, run.folder, RECIPE)


def test_a_folder_of_other_files_gets_no_lock(coloured, tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="holds other files and no run"):
        rounds.repeat(*coloured, tmp_path, RECIPE)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


def test_photos_edited_before_a_run_goes_on_are_named(run, coloured):
    photos, decoded = coloured
    digests = decoded.digests.copy()
    digests[[3, 5]] = "edited"
    edited = replace(decoded, fingerprint="another", digests=digests)
    with pytest.raises(InputError, match=r"different photos \(2 photos, first: 03\.png\); give"):
        rounds.repeat(photos, edited, run.folder, RECIPE)


@pytest.fixture(scope="module")
def doubled(coloured):
    """The coloured photos, a third of them there a second time, two with another score."""
    photos, pixels = coloured
    again = np.arange(0, 60, 3)
    table = pd.concat([photos.table, photos.table.iloc[again]], ignore_index=True)
    table.loc[60:, "photo"] = "copy of " + table.photo[60:]
    table.loc[[61, 62], "score"] = 5
    rows = np.concatenate([np.arange(60), again])
    twice = replace(pixels, array=pixels.array[rows], digests=pixels.digests[rows])
    return replace(photos, table=table.assign(mean_score=table.score.astype(float))), twice


def test_identical_photos_lie_in_one_part_and_a_sentence_says_how_many(doubled, tmp_path):
    made = rounds.repeat(*doubled, tmp_path / "run", altered(rounds=1))
    files = made.split.groupby("digest")
    assert files.part.nunique().max() == 1
    assert files.size().max() == 2
    assert set(made.split.part) == {"train", "validation", "test"}
    said = made.info["notices"]
    assert said[0].startswith("40 of 80 photos are 20 files under two names or more (first: 00.png")
    assert said[1].startswith("2 of these files have different scores (")
    assert said[2:] == ["keep_share has no effect: a single round drops nothing."] or len(said) == 4


@pytest.mark.parametrize(
    "changes", [{"resplit": "fresh"}, {"resplit": "rotating"}, {"control": "cross-fitted"}]
)
def test_no_photo_is_judged_by_who_has_seen_its_twin(doubled, tmp_path, monkeypatch, changes):
    digests, seen, judged = doubled[1].digests, {}, []
    real_train, real_logits = rounds.fine_tune, rounds.logits

    def fine_tune(network, pixels, rows, *args, **kwargs):
        seen.setdefault(id(network), set()).update(digests[rows])
        return real_train(network, pixels, rows, *args, **kwargs)

    def logits(network, pixels, rows, **kwargs):
        if rows is not None:
            judged.append(seen[id(network)] & set(digests[rows]))
        return real_logits(network, pixels, rows, **kwargs)

    monkeypatch.setattr(rounds, "fine_tune", fine_tune)
    monkeypatch.setattr(rounds, "logits", logits)
    made = rounds.repeat(*doubled, tmp_path / "run", altered(rounds=2, **changes))
    assert not any(judged)
    assert len(judged) == 2 * ("control" in changes)
    table = made.samples.assign(digest=np.tile(digests, 2))
    assert table.groupby(["round", "digest"]).part.nunique().max() == 1


def test_a_run_begun_when_identical_photos_could_be_torn_apart_goes_on_as_it_began(
    doubled, tmp_path, monkeypatch
):
    photos, pixels = doubled
    real = dataset.split
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "split", lambda *a, groups, **k: real(*a, **k))
        before = rounds.repeat(photos, pixels, tmp_path / "run", altered(rounds=1)).split
    assert before.groupby("digest").part.nunique().max() == 2
    made = rounds.repeat(photos, pixels, tmp_path / "run", altered(rounds=2))
    assert made.split.equals(before)
    parts = made.samples.pivot(index="photo", columns="round", values="part")
    assert (parts[1] == parts[2]).all()


NAMES = ["NA", "nan", "null", "None", "NaN", "-", "1e5", "0007", "-inf", "TRUE", "1.0", "n/a"]


def test_photos_named_like_nothing_or_a_number_keep_their_names(coloured, tmp_path):
    photos, pixels = coloured
    table = photos.table.copy()
    table.loc[: len(NAMES) - 1, "photo"] = NAMES
    named = replace(photos, table=table)
    made = rounds.repeat(named, pixels, tmp_path / "run", altered(rounds=1))
    assert made.split.photo.tolist() == table.photo.tolist()
    assert made.samples.photo.tolist() == table.photo.tolist()
    assert made.split.digest.tolist() == list(pixels.digests)
    rounds.repeat(named, pixels, made.folder, altered(rounds=2))


def test_weights_that_mean_no_photo_are_refused_before_a_folder_is_made_a_run(coloured, tmp_path):
    void = altered(weights_ab=(1.0, 6.0), ambiguous=(4.0, 5.0))
    with pytest.raises(
        InputError, match=r"none of the 38 training photos is ambiguous.*--mean-col"
    ):
        rounds.repeat(*coloured, tmp_path / "run", void)
    meant = altered(weights_ab=(1.0, 6.0), ambiguous=(3.0, 5.0), rounds=1)
    (said, _) = rounds.repeat(*coloured, tmp_path / "run", meant).info["notices"][::-1][:2]
    assert "training photos scored 4 and no others" in said

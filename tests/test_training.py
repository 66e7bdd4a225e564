import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from rsrl_lib import losses, machine
from rsrl_lib import pixels as pixels_module
from rsrl_lib import training as t
from rsrl_lib.dataset import soft_attributes
from rsrl_lib.files import InputError
from rsrl_lib.network import aesthetic_net
from rsrl_lib.pixels import five_corners, normalised
from rsrl_lib.recipe import Training

pytestmark = pytest.mark.usefixtures("small_crops")


def test_learning_rates_fall_to_a_tenth_after_each_third_of_the_steps():
    network = aesthetic_net("squeezenet1_1", [3, 4], weights="none")
    training = Training(decay="tenths", learning_rate=1.0)
    optimiser, schedule = t._optimiser(network, training, steps=7)
    rates = []
    for _step in range(7):
        rates.append(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])


def tuned(coloured, training, seed=0):
    photos, pixels = coloured
    scores = photos.table.score.to_numpy()
    network = aesthetic_net("squeezenet1_1", np.unique(scores), weights="none", seed=seed)
    rows = np.arange(len(scores))
    loss = t.fine_tune(network, pixels, rows, network.nodes(scores), training, seed=seed)
    return network, loss


@pytest.mark.parametrize(
    "training",
    [
        Training(learning_rate=1e-3, epochs=8, batch=12),
        Training(optimiser="sgd", learning_rate=5e-3, head_learning_rate=5e-3, epochs=16, batch=6),
    ],
)
def test_both_optimisers_learn_photos_whose_score_is_their_colour(coloured, training):
    photos, pixels = coloured
    network, loss = tuned(coloured, training)
    assigned = np.array(network.scores)[t.logits(network, pixels).argmax(1)]
    majority = (photos.table.score == 4).mean()
    assert loss < 1.2  # guessing by class size alone gives 1.29
    assert (assigned == photos.table.score).mean() > majority + 0.1


def test_the_same_seed_gives_the_same_network_and_leaves_the_global_generator_alone(coloured):
    training = Training(epochs=1)
    state = torch.get_rng_state()
    first, again, other = (tuned(coloured, training, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first.conv1.weight, again.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_diverging_training_is_an_error_that_names_the_learning_rates(coloured):
    with pytest.raises(InputError, match=r"loss became nan.*lower the learning rates \(1e\+06"):
        tuned(coloured, Training(optimiser="sgd", learning_rate=1e6, epochs=2))


def test_the_likelihood_is_the_sigmoid_of_each_node_alone():
    values = np.array([[-3.0, 0.0, 4.0]])
    assert np.allclose(t.likelihoods(values), 1 / (1 + np.exp(-values)))


def test_bfloat16_logits_lie_close_to_float32_ones(coloured):
    _, pixels = coloured
    network = aesthetic_net("squeezenet1_1", [3, 4], weights="none")
    exact = t.logits(network, pixels, precision="float32")
    coarse = t.logits(network, pixels, precision="bfloat16")
    assert np.abs(exact - coarse).max() < 0.05 * np.abs(exact).max() + 0.01


def test_a_photo_is_assigned_its_likeliest_score(coloured):
    photos, pixels = coloured
    network = aesthetic_net("squeezenet1_1", [2, 3, 4, 5], weights="none")
    labels = photos.table.score.to_numpy()
    table = t.judge(network, pixels, top_score=4, labels=labels)
    likely = t.likelihoods(t.logits(network, pixels))
    assert table.assigned.tolist() == [network.scores[node] for node in likely.argmax(1)]
    for name in ("assigned", "own", "top"):
        told = table[f"{name}_logit"], table[f"{name}_likelihood"]
        assert np.allclose(t.likelihoods(told[0]), told[1], atol=1e-6)
    assert np.allclose(table.assigned_likelihood, likely.max(1), atol=1e-6)
    assert np.allclose(table.top_likelihood, likely[:, 2], atol=1e-6)
    assert np.allclose(table.own_likelihood, likely[range(60), labels - 2], atol=1e-6)
    assert t.judge(network, pixels, top_score=4).label.isna().all()


def test_the_largest_logit_is_assigned_where_several_likelihoods_round_to_1(coloured):
    _, pixels = coloured
    network = aesthetic_net("squeezenet1_1", [2, 3, 4, 5], weights="none")
    network.head.weight.data.zero_()
    network.head.bias.data = torch.tensor([18.0, 24.0, 30.0, -18.0])
    table = t.judge(network, pixels, top_score=3, labels=np.full(60, 2), precision="float32")
    assert (table.assigned == 4).all()
    assert (table[["assigned_likelihood", "own_likelihood", "top_likelihood"]] == 1).all(axis=None)
    logits = table[["assigned_logit", "own_logit", "top_logit"]]
    assert logits.drop_duplicates().to_numpy().tolist() == [[30, 18, 24]]
    assert (logits.dtypes == np.float32).all()


def test_some_rows_give_the_logits_that_all_rows_give_for_them(coloured):
    network = aesthetic_net("squeezenet1_1", [3, 4], weights="none")
    some = t.logits(network, coloured[1], [5, 2], precision="float32")
    every = t.logits(network, coloured[1], precision="float32")
    assert np.allclose(some, every[[5, 2]], atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"epochs": 0}, "epochs must be 1 or more, not 0"),
        ({"steps": 0}, "steps must be 1 or more, not 0"),
        ({"batch": -1}, "batch must be 1 or more, not -1"),
        ({"weight_decay": -0.1}, "weight_decay must be 0 or more, not -0.1"),
        ({"shrink_to": 16}, "shrink_to must be 32 or more, not 16"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, not 0.0"),
        ({"optimiser": "Adam"}, "optimiser must be one of adamw, sgd, not 'Adam'"),
    ],
)
def test_a_setting_that_cannot_train_is_refused(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        Training(**wrong)


@pytest.mark.parametrize(
    ("passes", "sizes"),
    [
        ({"steps": 2}, [25, 25]),
        ({"steps": 5}, [25, 25, 10, 25, 25]),
        ({"epochs": 1}, [25, 25, 10]),
        ({"epochs": 2}, [25, 25, 10] * 2),
    ],
)
def test_every_epoch_takes_all_photos_once_and_steps_take_the_place_of_epochs(
    coloured, passes, sizes
):
    seen, nodes_seen = [], []

    def counting(logits, targets):
        seen.append(len(targets))
        nodes_seen.extend(targets.tolist())
        return torch.nn.functional.cross_entropy(logits, targets)

    photos, pixels = coloured
    scores = photos.table.score.to_numpy()
    network = aesthetic_net("squeezenet1_1", np.unique(scores), weights="none")
    nodes = network.nodes(scores)
    training = Training(**passes, batch=25, shrink_to=32)
    t.fine_tune(network, pixels, np.arange(60), nodes, training, loss=counting, seed=0)
    assert seen == sizes
    if "epochs" in passes:
        assert sorted(nodes_seen) == sorted(nodes.tolist() * passes["epochs"])


def test_the_joint_loss_is_that_of_the_equations_photo_by_photo():
    logits = torch.tensor([[1.0, -0.5, 0.3, 2.0], [0.2, 0.4, -1.0, 0.0]], dtype=torch.float64)
    weights, attributes = np.array([1.0, 7.0]), np.array([[1.0, 0.25], [0.0, np.nan]])
    targets = losses.joint_targets(torch.tensor([1, 0]), weights, attributes, literal=True)
    expected = 0
    for x, node, w, known in zip(logits.tolist(), (1, 0), weights, attributes, strict=True):
        expected += w * (np.log(np.exp(x[:2]).sum()) - x[node])
        for a, y in zip(known, x[2:], strict=True):
            sigmoid = 1 / (1 + np.exp(-y))
            loss = -(a * np.log(sigmoid) + (1 - a) * np.log(1 - sigmoid))
            expected += 0 if np.isnan(a) else loss
    assert losses.joint_loss(logits, targets.double()).item() == pytest.approx(
        expected / 2, rel=1e-6
    )


def gradient(logits, nodes, weights, **options):
    logits = logits.clone().requires_grad_()
    targets = losses.joint_targets(nodes, weights, np.empty((len(nodes), 0)), **options)
    losses.joint_loss(logits, targets).backward()
    return logits.grad


def test_a_weight_of_0_has_the_gradient_of_dropping_the_photo():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    nodes, clear = torch.tensor([0, 1, 2, 0, 1, 2]), np.array([1, 0, 1, 1, 0, 1])
    weighted = gradient(logits, nodes, clear.astype(float))
    dropped = gradient(logits[clear == 1], nodes[clear == 1], np.ones(4))
    assert torch.allclose(weighted[clear == 1], dropped)
    assert not weighted[clear == 0].any()


def test_scaled_weights_depend_on_their_ratio_alone_and_literal_ones_do_not():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    nodes, weights = torch.tensor([0, 1, 2, 0]), np.array([1.0, 7, 7, 1])
    assert losses.joint_targets(nodes, weights, np.empty((4, 0)))[:, 1].mean().item() == 1
    plain = gradient(logits, nodes, weights)
    assert torch.allclose(gradient(logits, nodes, 10 * weights), plain)
    assert torch.allclose(gradient(logits, nodes, weights, literal=True), 4 * plain)


def test_the_ambiguous_interval_is_open_at_both_ends():
    weights = losses.sample_weights(np.array([3.99, 4, 4.01, 5.99, 6, 6.01]), (4, 6), (1, 7))
    assert weights.tolist() == [7, 7, 1, 1, 7, 7]


def test_weights_that_are_all_0_are_refused():
    with pytest.raises(InputError, match="all 2 training photos are ambiguous and have weight 0"):
        losses.joint_targets(torch.tensor([0, 1]), np.zeros(2), np.empty((2, 0)))


def with_attributes(coloured, **columns):
    return replace(coloured[0], attributes=pd.DataFrame(columns, coloured[0].table.photo))


def test_attributes_within_0_to_1_are_kept_and_others_cut_at_the_median_of_the_training_photos(
    coloured,
):
    numbers = np.arange(60.0)
    numbers[3] = np.nan
    photos = with_attributes(coloured, sharp=np.linspace(0, 1, 60), dof=numbers)
    soft = soft_attributes(photos, ["dof", "sharp"], np.arange(20, 31))
    assert list(soft) == ["dof", "sharp"]
    assert soft.sharp.tolist() == pytest.approx(photos.attributes.sharp.tolist())
    assert np.isnan(soft.dof[3])
    assert soft.dof.drop(3).tolist() == (np.arange(60) > 25).astype(int)[numbers >= 0].tolist()


def test_a_word_stands_for_all_of_its_values(coloured):
    columns = {
        "tag=Sky": np.eye(60)[0],
        "tag=Black and White": np.eye(60)[1],
        "tags": np.eye(60)[2],
    }
    photos = with_attributes(coloured, **columns)
    soft = soft_attributes(photos, ["tag"], np.arange(60))
    assert list(soft) == ["tag=Sky", "tag=Black and White"]
    assert len(soft_attributes(photos, [], np.arange(60)).columns) == 0


def test_an_attribute_that_is_not_known_is_refused_with_those_that_are(coloured):
    with pytest.raises(
        InputError, match="attribute 'sharp' is needed, known of the training photos are none"
    ):
        soft_attributes(coloured[0], ["sharp"], np.arange(60))
    light = np.where(np.arange(60) < 50, np.nan, 1)
    photos = with_attributes(
        coloured, **{"dof": np.eye(60)[0], "tag=a": 1, "tag=b": 0}, light=light
    )
    for name in ("sharp", "light"):
        with pytest.raises(
            InputError, match=f"attribute '{name}' .* are dof, tag; choose among them"
        ):
            soft_attributes(photos, [name], np.arange(50))


def test_five_crops_are_judged_by_the_mean_of_their_logits(coloured):
    _, pixels = coloured
    network = aesthetic_net("squeezenet1_1", [3, 4], weights="none", attributes=["sharp"])
    five = t.logits(network, pixels, [5, 2], precision="float32", crops="five")
    whole = pixels.crops([5, 2], view="whole")
    side = pixels_module.CROP
    views = [whole[..., a : a + side, b : b + side] for a, b in five_corners()]
    with torch.inference_mode():
        each = torch.stack([network(normalised(view)) for view in views])
    assert five.shape == (2, 2)
    assert np.allclose(five, each.mean(0)[:, :2].numpy(), atol=1e-5)


def test_the_rates_of_the_paper_fall_to_a_tenth_after_each_third_of_the_steps():
    network = aesthetic_net("squeezenet1_1", [3, 4], weights="none", attributes=["sharp"])
    training = Training(optimiser="sgd", learning_rate=1e-3, decay="tenths")
    optimiser, schedule = t._optimiser(network, training, 6)
    rates = []
    for _step in range(6):
        rates.append(schedule.get_last_lr())
        optimiser.step()
        schedule.step()
    assert np.allclose(rates, [[1e-3, 1e-3]] * 2 + [[1e-4, 1e-4]] * 2 + [[1e-5, 1e-5]] * 2)
    assert optimiser.param_groups[1]["params"] == [
        *network.head.parameters(),
        *network.attribute_head.parameters(),
    ]
    assert optimiser.param_groups[0]["momentum"] == 0.9


def test_a_gpu_that_only_emulates_bfloat16_multiplies_in_float32(monkeypatch):
    monkeypatch.setattr(machine, "device", lambda: torch.device("cuda"))
    for is_real in (False, True):
        monkeypatch.setattr(
            torch.cuda,
            "is_bf16_supported",
            lambda including_emulation=True, is_real=is_real: is_real or including_emulation,
        )
        assert machine.fast_precision() == ("bfloat16" if is_real else "float32")


def write_quota(root, files):
    for name, text in files.items():
        path = root / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({}, 8),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu.max": "nonsense"}, 8),
    ],
)
def test_a_container_has_the_cores_of_its_quota(files, most, tmp_path, monkeypatch):
    monkeypatch.setattr(
        machine.os, "sched_getaffinity", lambda _process: set(range(8)), raising=False
    )
    write_quota(tmp_path, files)
    assert machine.cores(tmp_path) == most


def test_a_run_goes_on_by_as_many_threads_as_it_was_begun_by(monkeypatch, capsys):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "OWN_THREADS", torch.get_num_threads())
    monkeypatch.setattr(machine, "cores", lambda: 8)
    assert machine.threads_of({"threads": torch.get_num_threads()}) == torch.get_num_threads()
    assert machine.threads_of({"threads": 5}) == 5
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("asked", ["by the environment", "in Python", "by a smaller machine"])
def test_another_number_of_threads_is_kept_and_told(asked, monkeypatch, capsys):
    now = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "OWN_THREADS", now + (asked == "in Python"))
    monkeypatch.setattr(machine, "cores", lambda: 1 if asked == "by a smaller machine" else 8)
    if asked == "by the environment":
        monkeypatch.setenv("OMP_NUM_THREADS", str(now))
    assert machine.threads_of({"threads": 5}) == now
    assert f"begun by 5 threads and goes on by {now}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "first", "policy"),
    [
        ({}, "rsrl_lib", "PASSIVE"),
        ({}, "torch", "None"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "rsrl_lib", "ACTIVE"),
        ({"GOMP_SPINCOUNT": "5"}, "rsrl_lib", "None"),
    ],
)
def test_waiting_threads_leave_their_core_unless_somebody_says_otherwise(given, first, policy):
    kept = {n: v for n, v in os.environ.items() if n not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    code = f"import os, {first}, rsrl_lib; print(os.environ.get('OMP_WAIT_POLICY'))"
    told = subprocess.check_output([sys.executable, "-c", code], env=kept | given, text=True)
    assert told.strip() == policy

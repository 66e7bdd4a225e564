import numpy as np
import pytest
import torch

from rsrl_lib import training as t
from rsrl_lib.network import aesthetic_net
from rsrl_lib.photos import InputError


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
        t.Training(learning_rate=1e-3, epochs=8, batch=12),
        t.Training(optimiser="sgd", learning_rate=1e-2, head_learning_rate=1e-2, epochs=8, batch=6),
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
    training = t.Training(epochs=1)
    state = torch.get_rng_state()
    first, again, other = (tuned(coloured, training, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first.conv1.weight, again.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_diverging_training_is_an_error_that_names_the_learning_rates(coloured):
    with pytest.raises(InputError, match=r"loss became nan.*lower the learning rates \(1e\+06"):
        tuned(coloured, t.Training(optimiser="sgd", learning_rate=1e6, epochs=2))


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
    assert np.allclose(table.assigned_likelihood, likely.max(1), atol=1e-6)
    assert np.allclose(table.top_likelihood, likely[:, 2], atol=1e-6)
    assert np.allclose(table.own_likelihood, likely[range(60), labels - 2], atol=1e-6)
    assert t.judge(network, pixels, top_score=4).label.isna().all()


def test_some_rows_give_the_logits_that_all_rows_give_for_them(coloured):
    network = aesthetic_net("squeezenet1_1", [3, 4], weights="none")
    some = t.logits(network, coloured[1], [5, 2], precision="float32")
    every = t.logits(network, coloured[1], precision="float32")
    assert np.allclose(some, every[[5, 2]], atol=1e-5)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch": -1}, {"learning_rate": 0.0}])
def test_a_setting_that_cannot_train_is_refused(wrong):
    with pytest.raises(InputError, match="must be above 0"):
        t.Training(**wrong)


def test_a_number_of_steps_takes_the_place_of_whole_epochs(coloured):
    sizes = []

    def counting(logits, targets):
        sizes.append(len(targets))
        return torch.nn.functional.cross_entropy(logits, targets)

    photos, pixels = coloured
    scores = photos.table.score.to_numpy()
    network = aesthetic_net("squeezenet1_1", np.unique(scores), weights="none")
    for steps in (2, 5):
        sizes.clear()
        training = t.Training(steps=steps, batch=25)
        t.fine_tune(
            network,
            pixels,
            np.arange(60),
            network.nodes(scores[:60]),
            training,
            loss=counting,
            seed=0,
        )
        assert sizes == [25, 25, 10, 25, 25][:steps]

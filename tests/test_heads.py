"""The best linear head on features that stay."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from rsrl_lib import heads, losses
from rsrl_lib.files import InputError
from rsrl_lib.losses import joint_targets, logit_adjusted
from rsrl_lib.network import aesthetic_net


def drawn(count, width=20, scores=4, seed=0):
    """Features (count, width), nodes (count,) that depend on them, targets."""
    rng = np.random.default_rng(seed)
    features = (rng.gamma(1, size=(count, width)) * rng.gamma(1, size=width)).astype(np.float32)
    slopes = rng.standard_normal((width, scores)) / features.std(0)[:, None]
    nodes = (features @ slopes + rng.gumbel(size=(count, scores)) * 3).argmax(1)
    targets = joint_targets(torch.from_numpy(nodes), np.ones(count), np.empty((count, 0)))
    return features, nodes, targets


@pytest.mark.parametrize("count", [40, 300], ids=["fewer photos than features", "more"])
@pytest.mark.parametrize("freedom", [0.001, 0.1])
def test_a_head_is_the_optimum_that_scikit_learn_finds(count, freedom):
    features, nodes, targets = drawn(count, width=60)
    frame = heads.frame_of(features)
    weights, biases, _ = heads.best_head(features, targets, frame, levels=4, freedom=freedom)
    units = frame.units(features).numpy()
    theirs = LogisticRegression(C=freedom, tol=1e-9, max_iter=10_000).fit(units, nodes)
    ours = features @ weights.numpy().T + biases.numpy()
    np.testing.assert_allclose(ours, theirs.decision_function(units), atol=5e-4)


def test_the_loss_curves_by_one_along_each_coordinate_where_a_search_begins():
    features, nodes, _ = drawn(80, width=5, scores=3)
    attributes = (np.random.default_rng(2).random((80, 1)) > 0.8).astype(float)
    targets = joint_targets(torch.from_numpy(nodes), np.ones(80), attributes)
    frame = heads.frame_of(features)
    how = {"levels": 3, "freedom": 0.1, "level_loss": losses.cross_entropy}
    objective = heads._Objective(features, targets, frame, **how)
    begin = objective.coordinates_of(None)
    _, slopes = objective(begin)
    biases = slopes.reshape(4, 6)[:, -1]
    np.testing.assert_allclose(biases, 0, atol=1e-7)  # they are the best already
    curvature = []
    for step in 1e-4 * np.eye(len(begin)):
        difference = objective(begin + step)[1] - objective(begin - step)[1]
        curvature.append(difference / 2e-4)
    expected = np.eye(len(begin))
    along_all = np.abs(curvature).sum(0).argmin()
    assert along_all % 6 == 5  # a bias: logits of the levels that rise together change nothing
    expected[along_all, along_all] = 0
    np.testing.assert_allclose(curvature, expected, atol=1e-4)


def test_weights_attributes_and_another_loss_are_those_of_fine_tuning():
    features, nodes, _ = drawn(200)
    rng = np.random.default_rng(1)
    weights, attributes = rng.uniform(0, 3, 200), rng.random((200, 2))
    attributes[::3, 0] = np.nan
    targets = joint_targets(torch.from_numpy(nodes), weights, attributes)
    frame = heads.frame_of(features)
    loss = logit_adjusted(np.bincount(nodes))
    how = {"levels": 4, "freedom": 0.05, "level_loss": loss}
    best, biases, mean_loss = heads.best_head(features, targets, frame, **how)
    free = torch.cat([best, biases[:, None]], 1).requires_grad_()

    def objective(free):
        logits = torch.from_numpy(features).double() @ free[:, :-1].T + free[:, -1]
        told = heads.joint_loss(logits, targets.double(), level_loss=loss)
        squares = (free[:, :-1] * frame.spread).square().sum()
        return told, told + squares / (2 * 0.05 * len(features))

    told, whole = objective(free)
    (slope,) = torch.autograd.grad(whole, free)
    assert told.item() == pytest.approx(mean_loss, rel=1e-9)
    assert slope[:, :-1].abs().div(frame.spread).max() < 1e-4
    assert slope[:, -1].abs().max() < 1e-4


def test_features_by_chunks_give_the_same_head(monkeypatch):
    features, _, targets = drawn(300)
    whole = heads.frame_of(features)
    how = {"levels": 4, "freedom": 0.1}
    at_once = heads.best_head(features, targets, whole, **how)[0]
    monkeypatch.setattr(heads, "IN_MEMORY", 0)
    monkeypatch.setattr(heads, "CHUNK", 37)
    frame = heads.frame_of(features)
    np.testing.assert_allclose(frame.variances, whole.variances, rtol=1e-9)
    np.testing.assert_allclose(
        heads.best_head(features, targets, frame, **how)[0], at_once, atol=1e-4
    )


def test_features_that_never_differ_do_no_harm():
    features, _, targets = drawn(100)
    features[:, 3] = 7.5
    frame = heads.frame_of(features)
    weights, _, _ = heads.best_head(features, targets, frame, levels=4, freedom=0.1)
    assert weights[:, 3].abs().max() < 1e-9


def test_a_photo_is_judged_by_a_head_that_has_not_seen_it():
    features, _, targets = drawn(120)
    frame, folds = heads.frame_of(features), np.arange(120) % 5
    kept = np.arange(120) % 7 > 0
    how = {"levels": 4, "freedom": 0.1}
    learned = np.flatnonzero(kept)
    judged = heads.cross_fitted(features, targets, learned, folds, frame, **how)
    others = kept & (folds != 2)
    weights, biases, _ = heads.best_head(features[others], targets[others], frame, **how)
    expected = features[folds == 2] @ weights.numpy().T + biases.numpy()
    np.testing.assert_allclose(judged[folds == 2], expected, rtol=1e-5)


def test_the_freedom_is_the_one_that_judges_unseen_photos_best():
    features, _, targets = drawn(300)
    frame, folds = heads.frame_of(features), np.arange(300) % 5
    losses = {}
    for freedom in heads.FREEDOMS:
        how = {"levels": 4, "freedom": freedom}
        logits = heads.cross_fitted(features, targets, np.arange(300), folds, frame, **how)
        nodes = targets[:, 0].long()
        losses[freedom] = torch.nn.functional.cross_entropy(torch.from_numpy(logits), nodes).item()
    chosen = heads.chosen_freedom(features, targets, folds, frame, levels=4)
    assert chosen == min(losses, key=losses.get)
    assert heads.FREEDOMS[0] < chosen < heads.FREEDOMS[-1]


def test_a_network_gets_the_head_and_broken_features_are_told():
    features, nodes, _ = drawn(60, width=512)
    attributes = np.random.default_rng(0).random((60, 1))
    targets = joint_targets(torch.from_numpy(nodes), np.ones(60), attributes)
    network = aesthetic_net(
        "squeezenet1_1", [2, 3, 4, 5], weights="none", attributes=["depth of field"]
    )
    rows = np.arange(60)
    frozen = heads.freeze(features, None, rows, targets, rows % 5, levels=4)
    heads.fit_head(network, frozen, rows, targets)
    how = {"levels": 4, "freedom": frozen.freedom}
    weights, biases, _ = heads.best_head(features, targets, frozen.frame, **how)
    together = torch.cat([network.head.weight, network.attribute_head.weight])
    np.testing.assert_allclose(together.detach(), weights, rtol=1e-6)
    np.testing.assert_allclose(network.attribute_head.bias.detach(), biases[4:], rtol=1e-6)
    expected = features @ weights[:4].numpy().T + biases[:4].numpy()
    np.testing.assert_allclose(heads.head_logits(network, features), expected, atol=1e-4)
    features[5] = np.inf
    with pytest.raises(InputError, match=r"No best head was found in .*; take other weights"):
        heads.fit_head(network, frozen, rows, targets)


def test_what_is_the_same_for_the_arms_of_a_sweep_is_prepared_once(monkeypatch):
    features, _, targets = drawn(120)
    rows, folds = np.arange(100), np.arange(100) % 5
    calls, real = [], heads.chosen_freedom

    def chosen(*args, **kwargs):
        calls.append(kwargs["level_loss"])
        return real(*args, **kwargs)

    monkeypatch.setattr(heads, "chosen_freedom", chosen)
    prepare = partial(heads.freeze, features, None, rows, folds=folds, levels=4)
    first = prepare(targets[:100])
    again = prepare(targets[:100])
    assert len(calls) == 1 and again.freedom == first.freedom
    weighed = targets[:100].clone()
    weighed[:50, 1] = 3
    prepare(weighed)
    prepare(targets[:100], level_loss=losses.focal)
    assert len(calls) == 3

"""From nodes to a score: the prior divided out, the order of scores, several rounds together."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.special import softmax
from scipy.stats import linregress, norm

from rsrl_lib import deciding, features, heads, notices, rounds, runs, summary
from rsrl_lib.deciding import DecisionRule, Ordinal, fit_rule, read_rule
from rsrl_lib.files import InputError
from rsrl_lib.measures import measures
from rsrl_lib.network import Snapshot
from rsrl_lib.recipe import Recipe
from tests.conftest import broken_off
from tests.test_rounds import RECIPE, contents

SCORES = (3, 4, 5, 6)
BORDERS = (3.5, 4.5, 5.5)
pytestmark = pytest.mark.usefixtures("small_crops")


def altered(**changes):
    return dataclasses.replace(RECIPE, **changes)


def logits_of(run, i):
    of_round = run.samples[run.samples["round"] == i].reset_index(drop=True)
    return of_round, of_round.filter(regex=r"^logit_\d$").to_numpy()


@pytest.fixture(scope="module")
def drawn():
    """Photos of unequal classes, and the logits of somebody who knows how they were drawn."""
    rng = np.random.default_rng(1)
    prior = np.array([0.05, 0.6, 0.3, 0.05])
    nodes = rng.choice(4, size=4000, p=prior)
    seen = nodes + rng.normal(size=len(nodes))
    likelihood = norm.logpdf(seen[:, None] - np.arange(4))
    return np.array(SCORES)[nodes], likelihood + np.log(prior), nodes + 3.0 + 0.1 * seen


def fitted(drawn, decide, measure="macro_f1"):
    labels, logits, means = drawn
    how = {"scores": SCORES, "borders": BORDERS, "learned": labels, "measure": measure}
    return fit_rule(decide, logits, labels, mean_scores=means, **how)


def test_without_a_prior_the_largest_node_decides(drawn):
    _, logits, _ = drawn
    rule = fitted(drawn, "largest")
    assert rule == DecisionRule(SCORES)
    assert (rule.nodes(logits) == logits.argmax(1)).all()
    posterior = softmax(logits, axis=1)
    expected, spread = rule.expected(logits)
    np.testing.assert_allclose(expected, posterior @ SCORES)
    second = posterior @ np.square(SCORES)
    np.testing.assert_allclose(spread, np.sqrt(second - expected**2), atol=1e-6)


def test_the_posterior_is_divided_by_the_prior_to_the_power():
    rule = DecisionRule(scores=(4, 5), prior=(0.8, 0.2), power=0.5)
    logits = np.log([[0.6, 0.4]])
    weights = np.array([0.6 / 0.8**0.5, 0.4 / 0.2**0.5])
    np.testing.assert_allclose(np.exp(rule.log_posterior(logits))[0], weights / weights.sum())
    assert logits.argmax(1) == [0] and rule.nodes(logits) == [1]


def test_the_ordinal_posterior_is_a_normal_one_cut_at_the_borders():
    ordinal = Ordinal(slope=1.5, intercept=-2.0, error=0.4, borders=BORDERS)
    centre, edges = 1.5 * 4.2 - 2, [-np.inf, *BORDERS, np.inf]
    by_hand = [
        norm.cdf(edges[n + 1], centre, 0.4) - norm.cdf(edges[n], centre, 0.4) for n in range(4)
    ]
    np.testing.assert_allclose(np.exp(ordinal.log_posterior(np.array([4.2])))[0], by_hand)
    # Joined with what the nodes say by themselves: the product, scaled to 1.
    logits = np.array([[0.1, 0.9, 0.3, -0.5]])
    nodes = softmax(logits[0])
    joined = nodes * np.exp(ordinal.log_posterior(np.array([nodes @ SCORES])))[0]
    rule = DecisionRule(SCORES, ordinal=ordinal)
    np.testing.assert_allclose(np.exp(rule.log_posterior(logits))[0], joined / joined.sum())


def test_the_regression_is_that_of_least_squares(drawn):
    _, logits, means = drawn
    ordinal = fitted(drawn, "ordinal").ordinal
    expected, _ = DecisionRule(SCORES).expected(logits)
    line = linregress(expected, means)
    assert ordinal.slope == pytest.approx(line.slope)
    assert ordinal.intercept == pytest.approx(line.intercept)
    residual = means - line.intercept - line.slope * expected
    assert ordinal.error == pytest.approx(residual.std())


def test_who_knows_the_prior_needs_power_1_for_balanced_accuracy_and_0_for_accuracy(drawn):
    assert fitted(drawn, "prior", "balanced_accuracy").power == pytest.approx(1, abs=0.2)
    assert fitted(drawn, "prior", "accuracy").power == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize("decide", ["prior", "ordinal"])
@pytest.mark.parametrize("measure", ["macro_f1", "kappa", "macro_mae"])
def test_no_other_power_is_better_by_the_measure(drawn, decide, measure):
    labels, logits, _ = drawn
    rule = fitted(drawn, decide, measure)

    def quality(power):
        nodes = dataclasses.replace(rule, power=power).nodes(logits)
        value = measures(labels, np.array(SCORES)[nodes], SCORES)[measure]
        return -value if measure == "macro_mae" else value

    qualities = {power: quality(power) for power in deciding.POWERS}
    assert qualities[rule.power] == max(qualities.values())
    assert rule.power == min(p for p, q in qualities.items() if q == qualities[rule.power])


def test_a_score_that_nobody_learned_and_answers_all_alike_are_no_harm(drawn):
    labels, logits, means = drawn
    how = {"scores": SCORES, "borders": BORDERS, "learned": labels[labels < 6]}
    rule = fit_rule("ordinal", 0 * logits, labels, mean_scores=means, measure="kappa", **how)
    assert np.isfinite(rule.log_posterior(logits)).all()
    assert min(rule.prior) > 0 and rule.ordinal.slope == 0


def test_a_rule_is_read_as_it_was_written_and_nothing_else_is(drawn):
    for decide in ("largest", "prior", "ordinal"):
        rule = fitted(drawn, decide)
        assert read_rule(rule.as_text()) == rule
    facts = json.loads(rule.as_text())
    broken = [
        {"prior": [0.5, 0.5]},
        {"prior": [0.5, 0.5, 0.0, 0.0]},
        {"prior": [0.1, 0.1, 0.1, 7.0]},
        {"scores": [6, 5, 4, 3]},
        {"ordinal": facts["ordinal"] | {"borders": [5.5, 4.5, 3.5]}},
        {"power": -1},
        {"power": "1"},
        {"ordinal": facts["ordinal"] | {"error": 0}},
        {"ordinal": facts["ordinal"] | {"borders": [4.5]}},
        {"more": 1},
    ]
    for change in broken:
        with pytest.raises(ValueError, match="decision"):
            read_rule(json.dumps(facts | change))
    for text in ("{}", "3", "[]", "no JSON"):
        with pytest.raises(ValueError, match=r"decision|JSON|Expecting"):
            read_rule(text)


@pytest.mark.parametrize("decide", ["prior", "ordinal"])
def test_a_fine_tuned_run_fits_its_decision_on_validation_photos(coloured, tmp_path, decide):
    run = rounds.repeat(*coloured, tmp_path / "run", altered(decide=decide, rounds=2))
    table, logits = logits_of(run, run.chosen)
    scores = run.network().scores
    is_validation = (table.part == "validation").to_numpy()
    photos = coloured[0].table
    rule = fit_rule(
        decide,
        logits[is_validation],
        table.label[is_validation].to_numpy(int),
        scores=scores,
        mean_scores=photos.mean_score[is_validation].to_numpy(),
        borders=deciding.borders_of(table.label.to_numpy(int), photos.score.to_numpy()),
        learned=table.label[table.kept].to_numpy(int),
    )
    assert run.decision == rule
    assert (table.assigned == np.array(scores)[rule.nodes(logits)]).all()
    expected, spread = rule.expected(logits)
    np.testing.assert_allclose(table.expected, expected, rtol=1e-6)
    np.testing.assert_allclose(table.spread, spread, rtol=1e-5)
    assert run.rounds.power[run.chosen - 1] == rule.power
    said = " ".join(summary.of_end(run))
    assert rule.in_words() in said and "best macro f1 on the validation photos" in said


def test_a_run_of_heads_fits_its_decision_on_cross_fitted_photos(coloured, tmp_path, monkeypatch):
    real, given = rounds.fit_rule, []

    def fit(decide, logits, labels, **how):
        given.append((logits, how["learned"]))
        return real(decide, logits, labels, **how)

    judged = []
    monkeypatch.setattr(rounds, "fit_rule", fit)
    of_unseen = rounds.cross_fitted_logits

    def unseen(data, recipe, learned):
        judged.append(of_unseen(data, recipe, learned))
        return judged[-1]

    monkeypatch.setattr(rounds, "cross_fitted_logits", unseen)
    recipe = altered(tune="head", decide="prior", rounds=2)
    run = rounds.repeat(*coloured, tmp_path / "run", recipe)
    for i, (logits, learned) in enumerate(given, 1):
        table, _ = logits_of(run, i)
        assert logits is judged[i - 1]
        assert len(logits) == (table.part == "train").sum()
        assert sorted(learned) == sorted(table.label[table.kept])
    assert "by a head that has not seen it" in " ".join(summary.of_decision(run))


def test_a_photo_that_was_drawn_twice_is_judged_by_who_saw_it_never(
    coloured, tmp_path, monkeypatch
):
    real, learned = heads.best_head, []

    def best_head(features, *args, **kwargs):
        learned.append(features)
        return real(features, *args, **kwargs)

    recipe = altered(tune="head", decide="prior", rounds=1, control="class-balanced")
    rounds.repeat(*coloured, tmp_path / "first", recipe)
    monkeypatch.setattr(heads, "best_head", best_head)
    run = rounds.repeat(*coloured, tmp_path / "run", recipe)
    seen = features.features(run.network(), coloured[1], **recipe.view)
    rows = np.flatnonzero(run.split.part == "train")
    folds = rounds.fold_of_each(run.split.label.to_numpy()[rows], coloured[1].digests[rows])
    for fold, of_others in enumerate(learned[-5:]):
        own = {seen[row].tobytes() for row in rows[folds == fold]}
        assert not own & {photo.tobytes() for photo in of_others}
    assert run.decision.prior


@pytest.fixture(scope="module")
def together(coloured, tmp_path_factory, small_crops):
    folder = tmp_path_factory.mktemp("together") / "run"
    return rounds.repeat(*coloured, folder, altered(average=2, rounds=4))


def test_rounds_that_judge_together_average_their_posteriors(together):
    scores = np.array(together.network().scores)
    before = None
    for i in (1, 2, 3, 4):
        table, logits = logits_of(together, i)
        posterior = softmax(logits.astype(float), axis=1)
        mean = posterior if before is None else (posterior + before) / 2
        assert (table.assigned == scores[mean.argmax(1)]).all()
        np.testing.assert_allclose(table.expected, mean @ scores, rtol=1e-5)
        before = posterior
    assert "Networks of 2 rounds judge together" in " ".join(summary.of_end(together))


def test_the_networks_that_judge_together_are_kept_and_no_others(together):
    window = {together.chosen - 1, together.chosen, 3, 4} - {0}
    kept = {int(path.stem[-2:]) for path in together.folder.glob("network_??.safetensors")}
    assert kept == window
    judges = together.judges()
    assert len(judges.networks) == min(2, together.chosen)


def test_a_run_judges_photos_as_its_table_has_them(together, coloured):
    judges = together.judges()
    own, all_of_them = judges.logits(coloured[1])
    table, logits = logits_of(together, together.chosen)
    np.testing.assert_allclose(own, logits, atol=1e-4)
    scores = np.array(judges.rule.scores)
    assert (scores[judges.rule.nodes(all_of_them)] == table.assigned).all()


def test_a_network_that_judges_and_is_gone_is_named(together, tmp_path):
    folder = shutil.copytree(together.folder, tmp_path / "run")
    for path in folder.glob("network_??.safetensors"):
        path.unlink()
    if together.chosen > 1:
        with pytest.raises(InputError, match=r"network_0\d.* is needed and not there"):
            runs.Run(folder).judges()


def test_photos_below_zero_are_judged_by_several_rounds_too(coloured, tmp_path):
    photos, pixels = coloured
    table = photos.table.assign(score=photos.table.score - 4)
    lower = dataclasses.replace(photos, table=table)
    run = rounds.repeat(lower, pixels, tmp_path / "run", altered(average=2, rounds=2))
    assert min(run.network().scores) < 0


def test_heads_of_several_rounds_fit_their_decision_on_validation_photos(coloured, tmp_path):
    recipe = altered(tune="head", decide="prior", average=2, rounds=2)
    run = rounds.repeat(*coloured, tmp_path / "run", recipe)
    assert "on the validation photos, whose measures" in " ".join(summary.of_decision(run))


def test_photos_that_weigh_nothing_are_no_part_of_the_prior():
    labels = np.array([4] * 6 + [5] * 2)
    assert deciding.prior_of(labels, (4, 5)) == (0.75, 0.25)
    weights = np.array([0.0] * 4 + [1.0] * 4)
    assert deciding.prior_of(labels, (4, 5), weights) == (0.5, 0.5)


def test_mean_scores_of_another_scale_are_not_taken_for_scores(coloured, tmp_path):
    photos, pixels = coloured
    table = photos.table.assign(mean_score=photos.table.score * 10.0)
    other = dataclasses.replace(photos, table=table)
    recipe = altered(decide="ordinal", rounds=1)
    made = [
        rounds.repeat(given, pixels, tmp_path / name, recipe)
        for name, given in {"as it is": photos, "tenfold": other}.items()
    ]
    assert made[0].decision == made[1].decision
    assert any("are of another scale" in sentence for sentence in made[1].info["notices"])
    assert not any("are of another scale" in sentence for sentence in made[0].info["notices"])


def test_what_the_drop_rule_reads_is_of_the_last_network_alone(together, coloured, tmp_path):
    alone = rounds.repeat(*coloured, tmp_path / "alone", altered(rounds=4))
    for column in ("kept", "own_logit", "top_logit"):
        pd.testing.assert_series_equal(together.samples[column], alone.samples[column])


@pytest.mark.usefixtures("every_round_is_written")
def test_a_run_of_several_judges_that_broke_off_ends_identical(together, coloured, tmp_path):
    recipe = altered(average=2, rounds=4)
    with broken_off(Snapshot, "save", 5):
        rounds.repeat(*coloured, tmp_path / "run", recipe)
    resumed = rounds.repeat(*coloured, tmp_path / "run", recipe)
    assert contents(resumed.folder) == contents(together.folder)
    names = {path.name for path in resumed.folder.glob("network_*")}
    assert names == {path.name for path in together.folder.glob("network_*")}


def test_a_run_of_before_decides_by_the_largest_node(together, tmp_path):
    folder = shutil.copytree(together.folder, tmp_path / "run")
    path = folder / "network_best.safetensors"
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    assert facts.pop("decision")
    save_file(load_file(path), path, facts)
    scores = tuple(together.network().scores)
    assert runs.Run(folder).decision == DecisionRule(scores)
    facts["decision"] = '{"scores": 1}'
    save_file(load_file(path), path, facts)
    with pytest.raises(InputError, match=r"network_best.* is no readable part of a run"):
        _ = runs.Run(folder).decision


def test_a_decision_that_is_not_known_is_refused_and_one_that_is_not_read_is_told():
    with pytest.raises(InputError, match="decide must be one of largest, prior, ordinal"):
        Recipe(decide="priors")
    with pytest.raises(InputError, match="average must be 1 or more, not 0"):
        Recipe(average=0)
    with pytest.raises(InputError, match="need validation photos that no round learned from"):
        Recipe(average=2, resplit="fresh")
    sentences = notices.unread(Recipe(decide_for="kappa"))
    assert sentences == ["decide_for has no effect: decide is 'largest'."]
    sentences = notices.unread(Recipe(average=3, rounds=1))
    assert "average has no effect: a single round judges alone." in sentences

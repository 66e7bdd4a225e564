import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rsrl_lib.comparing import comparisons as c
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.files import ROOT, InputError
from rsrl_lib.measures import measures, paired_interval
from rsrl_lib.recipe import Recipe

PLAIN = Recipe(rounds=4, drop=DropRule(k=(0.0,)))
RECIPES = {
    "a": PLAIN,
    "b": Recipe(rounds=4, drop=DropRule(keep_share=0.667)),
    "c": Recipe(rounds=4, control="class-balanced", drop=DropRule(k=(0.0,))),
}


def made(answers, truth, *, recipes=RECIPES, folds=5):
    """Trainings on five folds of photos; `answers` (arm → (photos,)) to the truth of each."""
    photos = np.array([f"{n}.jpg" for n in range(len(truth))])
    results, predictions = [], []
    for arm, assigned in answers.items():
        for fold in range(folds):
            own = np.arange(len(truth)) % folds == fold
            place = {"cell": f"{arm}{fold}", "arm": arm, "seed": 0, "fold": fold}
            results.append(place | {"validation_total_f": float(fold % 2 == (arm == "b"))})
            told = {"photo": photos[own], "truth": truth[own], "assigned": assigned[own]}
            predictions.append(pd.DataFrame(told | place))
    tables = pd.DataFrame(results), pd.concat(predictions, ignore_index=True), pd.DataFrame()
    return c.measured(c.Trainings("made", recipes, *tables))


@pytest.fixture
def three_arms():
    """Arm b is right where a is, and for more photos; arm c answers at random."""
    rng = np.random.default_rng(0)
    truth = rng.choice([2, 3, 4, 5, 6], 400, p=[0.1, 0.2, 0.4, 0.2, 0.1])
    by_chance = rng.choice([2, 3, 4, 5, 6], 400)
    right = rng.random(400)
    answers = {
        "a": np.where(right < 0.4, truth, by_chance),
        "b": np.where(right < 0.7, truth, by_chance),
        "c": by_chance,
    }
    return made(answers, truth)


def test_each_training_has_the_measures_of_its_own_answers(three_arms):
    one = three_arms.results.set_index("cell").loc["b2"]
    own = three_arms.predictions.query("cell == 'b2'")
    expected = measures(own.truth.to_numpy(), own.assigned.to_numpy(), three_arms.scores)
    for name in ("accuracy", "macro_f1", "kappa", "macro_mae", "balanced_accuracy"):
        assert one[name] == pytest.approx(expected[name])
    assert three_arms.scores[three_arms.rare].tolist() == [2, 6]


def test_a_difference_is_that_of_shared_trainings_and_its_intervals_those_of_trusted_code(
    three_arms,
):
    drawn = c.resampled(three_arms, resamples=400)
    found = c.differences(three_arms, [("b", "a")], drawn, ["accuracy"]).iloc[0]
    by_fold = three_arms.results.pivot(index="fold", columns="arm", values="accuracy")
    gain = by_fold.b - by_fold.a
    interval = c.corrected_interval(gain.to_numpy(), test_over_train=0.2 / 0.64)
    assert found[["difference", "trainings_low", "trainings_high", "p"]].tolist() == pytest.approx(
        list(interval)
    )
    assert found.trainings == 5

    both = three_arms.predictions.pivot(index="photo", columns="arm", values="assigned")
    truth = three_arms.predictions.drop_duplicates("photo").set_index("photo").truth[both.index]
    columns = (table.to_numpy() for table in (truth, both.b, both.a))
    whole = paired_interval(lambda one, other: (one == other).mean(), *columns)
    assert (found.photos_low, found.photos_high) == pytest.approx(whole[1:], abs=0.012)


def test_a_training_that_one_arm_lacks_is_compared_with_nothing(three_arms):
    drawn = c.resampled(three_arms, resamples=20)
    few = three_arms.results[(three_arms.results.arm != "b") | (three_arms.results.fold < 2)]
    fewer = c.Trainings("made", RECIPES, few, three_arms.predictions, pd.DataFrame())
    found = c.judged(c.differences(fewer, [("b", "a")], drawn, ["accuracy"]))
    assert found.trainings.tolist() == [2]
    assert found.verdict.tolist() == ["too few trainings"]
    none = fewer.results[fewer.results.arm != "b"]
    without = c.Trainings("made", RECIPES, none, three_arms.predictions, pd.DataFrame())
    assert c.differences(without, [("b", "a")], drawn).empty


def test_a_large_difference_is_believed_in_its_direction_and_a_small_one_is_not(three_arms):
    drawn = c.resampled(three_arms, resamples=200)
    pairs = [("b", "a"), ("a", "b"), ("a", "a")]
    wanted = ["accuracy", "macro_mae"]
    found = c.judged(c.differences(three_arms, pairs, drawn, wanted))
    verdicts = found.groupby(["arm", "against"]).verdict.agg(list)
    assert verdicts["b", "a"] == ["better", "better"]  # an error falls
    assert verdicts["a", "b"] == ["worse", "worse"]
    assert verdicts["a", "a"] == ["undecided", "undecided"]


def test_one_of_two_intervals_over_zero_or_a_p_above_005_leaves_a_difference_undecided():
    sure = {"measure": "accuracy", "trainings": 15, "difference": 0.1, "p": 0.001}
    sure |= {"photos_low": 0.05, "photos_high": 0.15, "trainings_low": 0.02, "trainings_high": 0.18}
    rows = [sure, sure | {"photos_low": -0.01}, sure | {"trainings_low": -0.01}, sure | {"p": 0.02}]
    found = c.judged(pd.DataFrame(rows))
    assert found.verdict.tolist() == ["better", "undecided", "undecided", "better"]
    many = pd.DataFrame([sure | {"p": 0.02}] * 3)
    assert c.judged(many).verdict.tolist() == ["undecided"] * 3


def test_a_score_with_hardly_a_test_photo_counts_as_its_neighbour_in_truth_and_answer():
    truth = np.array([3] * 60 + [4] * 60 + [5] * 40 + [6] * 30 + [7] * 5)
    given = truth.copy()
    given[:3] = 7
    trainings, moved = c.merged(made({"a": given, "b": truth}, truth))
    assert moved == {7: 6}
    assert trainings.predictions.truth.max() == trainings.predictions.assigned.max() == 6
    assert trainings.results.query("arm == 'b'").accuracy.eq(1).all()
    own = trainings.predictions.query("arm == 'a' and photo == '0.jpg'")
    assert own.assigned.tolist() == [6]


def test_the_arm_chosen_inside_is_of_each_fold_the_one_that_validation_prefers(three_arms):
    grown, picked = c.with_chosen(three_arms, "chosen", lambda recipe: True)
    assert picked.tolist() == ["a", "b", "a", "b", "a"]  # of equal ones the first
    own = grown.results.query("arm == 'chosen'").set_index("fold")
    assert own.cell.tolist() == ["a0", "b1", "a2", "b3", "a4"]
    alone, nothing = c.with_chosen(three_arms, "chosen", c.answers_imbalance)
    assert alone is three_arms and nothing.empty


def test_the_arm_to_compare_with_is_told_from_the_recipes_whatever_its_name(three_arms):
    assert c.base_arm(three_arms) == "a"
    assert c.base_arm(three_arms, "c") == "c"
    with pytest.raises(InputError, match="no arm 'd' for made; found are a, b, c"):
        c.base_arm(three_arms, "d")


@pytest.mark.parametrize(
    ("recipes", "said"),
    [
        ({"x": RECIPES["b"], "y": RECIPES["c"]}, "none does; found are x, y"),
        ({"x": PLAIN, "y": PLAIN}, "2 of them do that; found are x, y"),
    ],
)
def test_without_one_arm_to_compare_with_the_error_names_those_there_are(recipes, said):
    of_arms = c.Trainings("made", recipes, *[pd.DataFrame()] * 3)
    with pytest.raises(InputError, match=said):
        c.base_arm(of_arms)


def test_a_method_is_named_in_words_that_its_recipe_tells():
    random = Recipe(rounds=4, control="random-drop", drop=DropRule(keep_share=0.5))
    recipes = RECIPES | {
        "d": Recipe(rounds=1, drop=DropRule(k=(0.0,))),
        "e": Recipe(rounds=4, drop=DropRule(rule="top-class", k=(0.9, 0.8))),
        "f": random,
        "g": random,
        "h": Recipe(rounds=4, weights_ab=(1, 6), drop=DropRule(k=(0.0,))),
        "i": Recipe(rounds=4),  # says nothing of K
    }
    assert c.arm_names(recipes) == {
        "a": "training on",
        "b": "RSRL's rule, 67 % kept",
        "c": "balanced batches",
        "d": "the first network",
        "e": "SSRL-2019's rule, K = 0.9 and 0.8",
        "f": "at random, as many as RSRL's rule, 50 % kept (f)",
        "g": "at random, as many as RSRL's rule, 50 % kept (g)",
        "h": "ambiguous photos weighted 1:6",
        "i": "RSRL's rule, about two thirds kept",
    }
    assert [arm for arm in recipes if c.drops_by_likelihood(recipes[arm])] == ["b", "e", "i"]
    assert [arm for arm in recipes if c.answers_imbalance(recipes[arm])] == ["c", "h"]
    assert [arm for arm in recipes if c.trains_on(recipes[arm])] == ["a", "d"]


def test_the_five_arms_are_found_by_what_they_do_and_the_random_one_by_the_rule_it_follows():
    other, followed = DropRule(k=(0.9,)), DropRule(keep_share=0.667)
    recipes = {
        "1": Recipe(rounds=4, control="random-drop", drop=other),
        "2": Recipe(rounds=4, control="random-drop", drop=followed),
        "3": Recipe(rounds=4, drop=other),
        "4": Recipe(rounds=4, drop=followed),
        "5": PLAIN,
    }
    found = c.arms_in_question(c.Trainings("made", recipes, *[pd.DataFrame()] * 3))
    assert found == {"training on": "5", "RSRL's rule": "4", "as many at random": "2"}
    recipes |= {"6": RECIPES["c"], "7": Recipe(rounds=4, drop=DropRule(rule="top-class"))}
    found = c.arms_in_question(c.Trainings("made", recipes, *[pd.DataFrame()] * 3), base="6")
    assert tuple(found) == c.FIVE_ARMS
    assert found["training on"] == found["balanced batches"] == "6"
    assert found["SSRL-2019's rule"] == "7"


def test_sets_without_an_arm_to_compare_with_are_left_out_unless_all_are():
    def of(recipes):
        return c.Trainings("made", recipes, *[pd.DataFrame()] * 3)

    sets = {"three": of(RECIPES), "one": of({"a": PLAIN}), "none": of({"b": RECIPES["b"]})}
    assert list(c.most_telling(sets)) == ["three"]
    assert list(c.most_telling(sets, "b")) == ["three"]
    with pytest.raises(InputError, match="no arm 'x'"):
        c.most_telling(sets, "x")


def test_a_difference_as_large_as_the_smallest_visible_one_is_just_believed():
    half = 0.1
    bounds = {"photos_low": 0.01, "photos_high": 0.5, "measure": "accuracy", "trainings": 15}
    rows = pd.DataFrame([bounds | {"trainings_low": -half, "trainings_high": half}] * 22)
    visible = c.smallest_visible(rows).accuracy
    error = half / stats.t.ppf(0.975, 14)
    assert 22 * 2 * stats.t.sf(visible / error, 14) == pytest.approx(0.05)


def test_the_kept_tables_tell_what_each_of_their_arms_did():
    (glassbox,) = c.read_trainings([ROOT / "data" / "results" / "glassbox_arms.csv"]).values()
    assert c.base_arm(glassbox) == "keep training"
    assert len(set(c.arm_names(glassbox.recipes).values())) == len(glassbox.recipes) > 20
    # The table was written by the run itself, before anything was merged.
    path = ROOT / "data" / "results" / "glassbox_arms.csv"
    written = pd.read_csv(path, index_col="cell").loc[glassbox.results.cell]
    for name in ("accuracy", "macro_f1", "kappa", "macro_mae", "balanced_accuracy"):
        np.testing.assert_allclose(written[name], glassbox.results[name], atol=6e-6)


@pytest.mark.parametrize("missing", ["oasis.csv", "oasis.json", "oasis_rounds.parquet"])
def test_a_table_without_what_belongs_to_it_is_an_error_that_names_it(missing, tmp_path):
    for path in (ROOT / "data" / "results").glob("oasis_arms*"):
        named = path.name.replace("oasis_arms", "oasis")
        if named != missing:
            (tmp_path / named).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=missing):
        c.read_trainings([tmp_path / "oasis.csv"])


def test_two_tables_with_the_same_photos_are_not_mixed():
    path = ROOT / "data" / "results" / "glassbox_arms.csv"
    with pytest.raises(InputError, match="'glass-box', and so does another"):
        c.read_trainings([path, path])


def test_the_interval_over_cells_is_that_of_a_t_test_when_no_photos_are_shared():
    differences = np.array([0.02, -0.01, 0.03, 0.01, 0.04])
    mean, low, high, p = c.corrected_interval(differences, test_over_train=0)
    trusted = stats.ttest_1samp(differences, 0)
    interval = trusted.confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((differences.mean(), interval.low, interval.high))
    assert p == pytest.approx(trusted.pvalue)


def test_the_interval_widens_by_what_nadeau_and_bengio_add():
    differences = np.array([0.02, -0.01, 0.03, 0.01, 0.04])
    plain = c.corrected_interval(differences, test_over_train=0)
    wide = c.corrected_interval(differences, test_over_train=0.25)
    ratio = np.sqrt((1 / 5 + 0.25) / (1 / 5))
    assert wide[2] - wide[0] == pytest.approx(ratio * (plain[2] - plain[0]))


def test_equal_cells_leave_no_doubt_either_way():
    assert c.corrected_interval(np.zeros(5), test_over_train=0.25) == (0, 0, 0, 1)
    assert c.corrected_interval(np.full(5, 0.5), test_over_train=0.25) == (0.5, 0.5, 0.5, 0)


def test_holm_raises_p_by_the_number_of_comparisons_left_and_keeps_their_order():
    assert c.holm([0.5, 0.01, 0.02]) == pytest.approx([0.5, 0.03, 0.04])
    assert c.holm([0.9, 0.8]).tolist() == [1, 1]
    assert c.holm([np.nan, 0.04, 0.03]).tolist() == pytest.approx([np.nan, 0.06, 0.06], nan_ok=True)

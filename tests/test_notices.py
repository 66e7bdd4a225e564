from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rsrl_lib.drop_rules import DropRule
from rsrl_lib.files import InputError
from rsrl_lib.notices import identical, notices, of_attributes, of_cut, of_weights, unread
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.recipe import Recipe, Training

WEIGHED = Recipe(weights_ab=(1.0, 6.0), ambiguous=(4.0, 6.0))
WHOLE = np.repeat([3.0, 4, 5, 6], [10, 20, 8, 6])


def test_identical_files_are_counted_and_the_first_named():
    table = pd.DataFrame({"photo": list("abcdef"), "score": [3, 4, 4, 5, 6, 6]})
    assert identical(table, np.array(list("uvwxyz"))) == []
    said = identical(table, np.array(list("uvwvuu")))
    assert said == [
        "5 of 6 photos are 2 files under two names or more (first: a and e); identical files "
        "always lie in one part.",
        "2 of these files have different scores (a has 3 and e has 6).",
    ]
    assert len(identical(table, np.array(list("uvvxyz")))) == 1
    assert identical(table, np.array(list("uvvxyv")))[1].startswith("1 of these files has diff")


@pytest.mark.parametrize(
    ("recipe", "means", "sentence"),
    [
        (
            replace(WEIGHED, ambiguous=(4.0, 5.0)),
            WHOLE,
            r"weights_ab 1 6, none of the 44 training photos is ambiguous: mean scores between 4 "
            r"and 5 are, and theirs are 3, 4, 5, 6; give real mean scores \(--mean-column",
        ),
        (
            replace(WEIGHED, weights_ab=(0.0, 1.0), ambiguous=(7.5, 8.5)),
            np.linspace(2.5, 7.25, 9),
            r"0 1, none of the 9 .* between 7\.5 and 8\.5 are, and theirs are 2\.5 to 7\.25",
        ),
        (replace(WEIGHED, ambiguous=(0.0, 9.0)), WHOLE, "all 44 training photos are ambiguous"),
        (replace(WEIGHED, weights_ab=(2.0, 0.0), ambiguous=(8.0, 9.0)), WHOLE, "2 0, none of the"),
    ],
)
def test_weights_that_tell_no_training_photos_apart_are_refused(recipe, means, sentence):
    with pytest.raises(InputError, match=sentence):
        of_weights(recipe, means)
    assert of_weights(replace(recipe, weights_ab=(3.0, 3.0)), means) == []


def test_weights_of_whole_scores_say_which_scores_they_mean():
    (said,) = of_weights(WEIGHED, WHOLE)
    assert "between 4 and 6, are the 8 training photos scored 5 and no others" in said
    (said,) = of_weights(replace(WEIGHED, ambiguous=(3.5, 5.5)), WHOLE)
    assert "the 28 training photos scored 4, 5 and no others" in said
    assert of_weights(WEIGHED, WHOLE + 0.1) == []


def test_whole_scores_at_the_cut_are_said_to_be_low():
    levels = Recipe(levels="low-high", cut=5.0)
    (said,) = of_cut(levels, WHOLE)
    assert "the 8 photos scored 5, at the cut, count as low" in said
    assert of_cut(replace(levels, cut=4.5), WHOLE) == []
    assert of_cut(levels, np.append(WHOLE, 5.5)) == []
    assert of_cut(Recipe(), WHOLE) == []


def test_an_attribute_that_is_the_same_everywhere_teaches_nothing():
    known = pd.DataFrame({"night": 0.0, "tag=a": [0, 1, 0], "tag=b": 0.0, "dof": [1, np.nan, 1]})
    said = of_attributes(("night", "tag", "dof"), known)
    assert [sentence.split(":")[0].split()[-1] for sentence in said] == ["night", "dof"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"cut": 4.0}, "cut has no effect: levels is 'scores'."),
        ({"ambiguous": (3.0, 5.0)}, "ambiguous has no effect: weights_ab 1 1 weighs all"),
        ({"weights_ab": (7.0, 7.0)}, "weights_ab has no effect: two equal weights are scaled to 1"),
        ({"literal_weights": True}, "literal_weights has no effect: weights_ab 1 1"),
        ({"loss_threshold": 0.2}, "loss_threshold has no effect: stop is 'rounds'."),
        ({"patience": 9, "stop": "loss"}, "patience has no effect: stop is 'loss'."),
        ({"training": Training(epochs=9, steps=5)}, "epochs has no effect: steps is given."),
        (
            {"drop": DropRule(k=(0.99,)), "control": "focal"},
            "k has no effect: the control 'focal' does not drop by the rule.",
        ),
        (
            {"drop": DropRule(keep_share=0.6), "rounds": 1},
            "keep_share has no effect: a single round drops nothing.",
        ),
        ({"drop": DropRule(rule="top-class"), "control": "emd"}, "rule has no effect: the control"),
    ],
)
def test_a_setting_that_another_one_leaves_unread_is_said(changes, sentence):
    (said,) = unread(Recipe(**changes))
    assert said.startswith(sentence)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"levels": "low-high", "cut": 4.0, "weights_ab": (0.0, 1.0), "ambiguous": (3.0, 5.0)},
        {"weights_ab": (7.0, 7.0), "literal_weights": True},
        {"weights_ab": (1.0, 7.0), "literal_weights": True},
        {"stop": "loss", "loss_threshold": 0.2},
        {"stop": "patience", "patience": 9},
        {"training": Training(epochs=9), "first_steps": 60},
        {"drop": DropRule(k=(0.99,)), "control": "random-drop"},
        {"drop": DropRule(keep_share=0.7, min_per_class=2), "control": "cross-fitted"},
    ],
)
def test_settings_that_are_read_are_not_spoken_of(changes):
    assert unread(Recipe(**changes)) == []


def test_a_run_says_all_of_it_of_its_training_photos():
    table = pd.DataFrame({"photo": list("abcd"), "score": [3, 4, 5, 6]})
    photos = ScoredPhotos(table.assign(mean_score=table.score.astype(float)))
    recipe = replace(WEIGHED, attributes=("night",), patience=7)
    digests, night = np.array(list("wxyw")), pd.DataFrame({"night": [0.0, 0, 0, 1]})
    said = notices(recipe, photos, digests, np.array([0, 1, 2]), night)
    starts = ["2 of 4 photos", "1 of these files", "patience has no", "All mean", "Nothing can be"]
    assert [sentence[: len(start)] for sentence, start in zip(said, starts, strict=True)] == starts
    with pytest.raises(InputError, match="none of the 2 training photos is"):
        notices(recipe, photos, None, np.array([0, 1]), night)

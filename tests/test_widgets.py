import re

import numpy as np
import pandas as pd
import pytest

from rsrl_lib.drop_rules import DropRule, decide

ipywidgets = pytest.importorskip("ipywidgets")

from rsrl_lib import widgets  # noqa: E402


@pytest.fixture
def explored(coloured):
    photos, _ = coloured
    rng = np.random.default_rng(0)
    sample = pd.DataFrame({"photo": photos.table.photo, "label": photos.table.score})
    sample["own_likelihood"], sample["top_likelihood"] = rng.random((2, len(sample)))
    view = widgets.drop_explorer(sample, photos.table.set_index("photo")["path"])
    head, *sliders, summary, picture = view.children
    return sample, head.children[0], sliders, summary, picture


def stay(summary):
    return int(re.search(r"<b>(\d+) of \d+ photos stay", summary.value)[1])


@pytest.mark.parametrize("rule", ["own-class", "top-class"])
def test_the_explorer_counts_what_the_rule_keeps(explored, rule):
    sample, choice, sliders, summary, _ = explored
    choice.value = rule
    for slider, k in zip(sliders, (0.7, 0.4, 0.2), strict=True):
        slider.value = k
    k = (0.7, 0.4, 0.2) if rule == "own-class" else (0.7, 0.4)
    decision = decide(
        DropRule(rule=rule, k=k, min_per_class=0),
        sample.label.to_numpy(),
        sample.own_likelihood.to_numpy(),
        sample.top_likelihood.to_numpy(),
        after_round=1,
    )
    assert stay(summary) == decision.kept.sum()


def test_the_picture_follows_a_slider_and_is_a_png(explored):
    _, _, sliders, _, picture = explored
    before = bytes(picture.value)
    assert before.startswith(b"\x89PNG")
    sliders[0].value = 0.3
    assert bytes(picture.value) != before


def test_the_third_threshold_is_not_asked_for_where_the_rule_has_two(explored):
    _, choice, sliders, _, _ = explored
    choice.value = "top-class"
    assert sliders[2].disabled
    choice.value = "own-class"
    assert not sliders[2].disabled

"""A run trained on shrunk crops: whatever looks at a photo for it shrinks the photo as well."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from rsrl_lib import activation, highlight, rounds
from rsrl_lib.drawing import glassbox
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.interface import cli
from rsrl_lib.pixels import decode
from rsrl_lib.recipe import Recipe, Training
from rsrl_lib.training import logits

SHRINK_TO, WHOLE = 64, 72  # sides of a crop of 227 px and of the whole view of 256 px


@pytest.fixture(scope="module")
def drawn():
    photos = glassbox.open_set(120, 0)
    return photos, decode(photos.table)[0]


@pytest.fixture(scope="module")
def run(drawn, tmp_path_factory):
    """Levels that are about as many of each, two rounds, nothing dropped."""
    photos, pixels = drawn
    training = Training(
        learning_rate=1e-3, head_learning_rate=1e-2, steps=40, batch=16, shrink_to=SHRINK_TO
    )
    recipe = Recipe(
        "squeezenet1_1",
        "starter",
        head="gap",
        levels="low-high",
        cut=float(np.median(photos.table.mean_score)),
        rounds=2,
        drop=DropRule(k=(0.0,)),
        training=training,
    )
    return rounds.repeat(photos, pixels, tmp_path_factory.mktemp("shrunk") / "run", recipe)


def test_the_larger_map_is_the_decision_of_the_run(run, drawn):
    """Looked at unshrunk, the maps of this run say otherwise for a quarter of the photos."""
    network, pixels = run.network(), drawn[1]
    low, high = logits(network, pixels, **run.view).T
    decided_high = high > low
    assert 0.25 < decided_high.mean() < 0.75

    def agreement(shrink_to):
        whole = pixels.crops(np.arange(len(pixels)), view="whole")
        maps = activation.activation_maps(network, whole, shrink_to=shrink_to)
        margins = [(own.levels["high"] - own.levels["low"]).mean() for own in maps]
        return np.mean((np.array(margins) > 0) == decided_high)

    at_the_view, unshrunk = agreement(run.view["shrink_to"]), agreement(None)
    print(f"agreement {at_the_view:.3f}, unshrunk {unshrunk:.3f}")
    assert at_the_view >= 0.88
    assert unshrunk < at_the_view - 0.08


def test_highlight_maps_have_the_grid_of_the_shrunk_view(run, drawn):
    pair = highlight.stacked(*(highlight.conv1_of(run, i) for i in (2, 1)))
    photo = drawn[1].crops([0], view="whole")
    found = highlight.highlights(pair, photo, shrink_to=run.view["shrink_to"])[0]
    side = (WHOLE - 3) // 2 + 1  # conv1 of SqueezeNet: kernel 3, stride 2, no padding
    assert found.diff.shape == found.region.shape == (side, side)


@pytest.mark.parametrize("shrink_to", [None, SHRINK_TO])
def test_the_box_of_a_region_is_in_pixels_of_the_photo_however_it_was_looked_at(shrink_to):
    layer = nn.Conv2d(3, 2, 3, stride=2, bias=False)
    brighter = nn.Conv2d(3, 2, 3, stride=2, bias=False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        layer.weight.normal_(generator=generator)
        brighter.weight.copy_(layer.weight)
        brighter.weight[1] += 0.5  # channel 1 comes to answer to brightness
    photo = torch.full((1, 3, 256, 256), 120, dtype=torch.uint8)  # near the mean: hardly moved
    photo[..., 64:192, 32:96] = 250
    photo += torch.randint(5, photo.shape, generator=generator, dtype=torch.uint8)
    pair = highlight.stacked(brighter, layer)
    facts = highlight.highlights(pair, photo, shrink_to=shrink_to, channel=1)[0].facts((640, 480))
    step = 2 * (1 if shrink_to is None else 256 / WHOLE)  # of conv1, in px of the 256 px view
    expected = {"left": 80, "width": 160, "top": 120, "height": 240}
    for name, value in expected.items():
        of_the_photo = 640 / 256 if name in ("left", "width") else 480 / 256
        assert facts[name] == pytest.approx(value, abs=1.5 * step * of_the_photo), name


@pytest.fixture
def sides():
    """Sides of all that any first layer has been shown, in pixels."""
    seen = set()

    def note(layer, given):
        if isinstance(layer, nn.Conv2d) and layer.in_channels == 3:
            seen.add(tuple(given[0].shape[2:]))

    with nn.modules.module.register_module_forward_pre_hook(note):
        yield seen


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["assess"], SHRINK_TO),
        (["crop", "--out", "crops"], WHOLE),
        (["highlight", "--rounds", "2", "1", "--out", "highlights"], WHOLE),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)
def test_commands_look_at_the_view_of_the_run(
    words, expected, run, drawn, sides, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    command, *more = words
    given = ["rsrl", command, "--run", str(run.folder), *more, drawn[0].table.path[0]]
    monkeypatch.setattr(sys, "argv", given)
    cli.main()
    assert sides == {(expected, expected)}


@pytest.mark.parametrize(
    ("explorer", "expected"),
    [("highlight_explorer", {WHOLE}), ("crop_explorer", {WHOLE, SHRINK_TO})],
)
def test_explorers_look_at_the_view_of_the_run(explorer, expected, run, drawn, sides):
    pytest.importorskip("ipywidgets")
    from rsrl_lib.interface import widgets

    getattr(widgets, explorer)(run, drawn[0].table)
    assert sides == {(side, side) for side in expected}

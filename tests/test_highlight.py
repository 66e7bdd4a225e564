import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.cluster import KMeans
from torch import nn

from rsrl_lib import highlight, plots, rounds, runs
from rsrl_lib.files import InputError
from rsrl_lib.interface import cli
from rsrl_lib.network import AestheticNet
from rsrl_lib.pixels import normalised
from rsrl_lib.recipe import Recipe, Training

BACKBONES = ("alexnet", "squeezenet1_0", "squeezenet1_1", "resnet18")


def moved(layer, by, seed=0):
    """The same layer after a step of some share of its norm."""
    other = nn.Conv2d(
        3,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        bias=layer.bias is not None,
    )
    other.load_state_dict(layer.state_dict())
    step = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        other.weight += by * step * layer.weight.norm() / step.norm()
    return other


@pytest.fixture(scope="module")
def photos():
    generator = torch.Generator().manual_seed(3)
    small = torch.rand(3, 3, 9, 9, generator=generator)
    large = nn.functional.interpolate(small, (256, 256), mode="bilinear")
    noise = torch.rand(large.shape, generator=generator)
    return ((0.8 * large + 0.2 * noise) * 255).to(torch.uint8)


@pytest.fixture(scope="module")
def layers():
    torch.manual_seed(0)
    layer = AestheticNet("squeezenet1_1", [3, 4]).conv1
    return moved(layer, 0.05), layer


@pytest.fixture(scope="module")
def run(coloured, small_crops, tmp_path_factory):
    recipe = Recipe(
        backbone="squeezenet1_1",
        weights="none",
        rounds=2,
        training=Training(learning_rate=1e-3, epochs=1),
    )
    return rounds.repeat(*coloured, tmp_path_factory.mktemp("runs") / "run", recipe)


@pytest.mark.parametrize(
    ("later", "step", "pair"),
    [(None, 1, (3, 2)), (2, 1, (2, 1)), (3, 2, (3, 1)), (None, 2, (3, 1))],
)
def test_compared_are_the_last_two_rounds_or_those_asked_for(run, monkeypatch, later, step, pair):
    rounds_of_three = pd.DataFrame({"round": [1, 2, 3]})
    monkeypatch.setattr(runs.Run, "rounds", rounds_of_three)
    assert highlight.pair_of_rounds(run, later, step) == pair


@pytest.mark.parametrize(
    ("later", "step", "said"),
    [
        (3, 1, "later is 3 and .* has 2 rounds; give a whole number from 2 to 2"),
        (1, 1, "later is 1 and"),
        ("two", 1, "later is 'two' and"),
        (None, 2, "step is 2 and .* has 2 rounds; give a whole number from 1 to 1"),
        (None, 0, "step is 0 and"),
        (None, 1.0, "step is 1.0 and"),
    ],
)
def test_rounds_that_a_run_has_not_are_an_error_in_words(run, later, step, said):
    with pytest.raises(InputError, match=said):
        highlight.pair_of_rounds(run, later, step)


def test_a_round_has_no_other_so_far_before_it(run, monkeypatch):
    monkeypatch.setattr(runs.Run, "rounds", pd.DataFrame({"round": [1, 2, 3]}))
    with pytest.raises(InputError, match="no round 2 before round 2; give a step from 1 to 1"):
        highlight.pair_of_rounds(run, 2, 2)
    monkeypatch.setattr(runs.Run, "rounds", pd.DataFrame({"round": [1]}))
    with pytest.raises(InputError, match="has one round"):
        highlight.pair_of_rounds(run)


def test_j_and_the_difference_are_those_of_the_equations_channel_by_channel(layers, photos):
    found = highlight.highlights(highlight.stacked(*layers), photos, shrink_to=None)
    for photo, result in zip(photos, found, strict=True):
        later, earlier = (layer(normalised(photo[None]))[0].detach().numpy() for layer in layers)
        expected = [
            np.corrcoef(a.ravel().astype(float), b.ravel().astype(float))[0, 1]
            for a, b in zip(later, earlier, strict=True)
        ]
        assert np.allclose(result.correlations, expected, atol=1e-9)
        assert result.channel == np.argmin(expected)
        assert np.allclose(result.diff, later[result.channel] - earlier[result.channel], atol=1e-5)
    assert len({result.channel for result in found}) > 1


@pytest.mark.parametrize("backbone", BACKBONES)
def test_maps_of_both_rounds_come_from_one_pass_of_conv1_alone(backbone, photos):
    network = AestheticNet(backbone, [3, 4])
    pair = highlight.stacked(moved(network.conv1, 0.1), network.conv1)
    result = highlight.highlights(pair, photos[:1], shrink_to=None)[0]
    whole = {}
    network.conv1.register_forward_hook(lambda _m, _x, y: whole.update(maps=y.detach().clone()))
    network.eval()(normalised(photos[:1]))
    assert np.allclose(result.earlier, whole["maps"][0, result.channel].numpy(), atol=1e-5)


def test_the_options_that_the_papers_leave_open(layers, photos):
    pair = highlight.stacked(*layers)
    plain = highlight.highlights(pair, photos, shrink_to=None)[0]
    absolute = highlight.highlights(pair, photos, shrink_to=None, absolute=True)[0]
    assert np.array_equal(absolute.diff, np.abs(plain.diff))
    relu = highlight.highlights(pair, photos, shrink_to=None, after_relu=True)[0]
    assert relu.later.min() == 0 and (relu.correlations != plain.correlations).any()
    flipped = highlight.highlights(pair, photos, shrink_to=None, flip=True)[0]
    assert np.array_equal(flipped.region, ~plain.region)
    assert highlight.highlights(pair, photos, shrink_to=None, channel=7)[0].channel == 7
    with pytest.raises(InputError, match=r"J must lie in 0\.\.63, not 64"):
        highlight.highlights(pair, photos, shrink_to=None, channel=64)


def test_a_flat_map_has_no_correlation_and_is_never_chosen(layers, photos):
    later, earlier = (moved(layer, 0) for layer in layers)
    with torch.no_grad():
        later.weight[5] = 0
    result = highlight.highlights(highlight.stacked(later, earlier), photos, shrink_to=None)[0]
    assert np.isnan(result.correlations).nonzero()[0].tolist() == [5]
    assert result.channel != 5
    grey = torch.full((1, 3, 256, 256), 90, dtype=torch.uint8)
    with pytest.raises(InputError, match="all maps are flat"):
        highlight.highlights(highlight.stacked(later, earlier), grey, shrink_to=None)


def test_a_tie_a_broken_network_and_networks_that_did_not_move_are_errors_in_words(layers, photos):
    later, earlier = (moved(layer, 0) for layer in layers)
    with torch.no_grad():
        for layer in (later, earlier):
            layer.weight[9], layer.bias[9] = layer.weight[8], layer.bias[8]
        later.weight[8:10], later.bias[8:10] = -earlier.weight[8:10], -earlier.bias[8:10]
    with pytest.raises(InputError, match=r"channels \[8, 9\] tie"):
        highlight.highlights(highlight.stacked(later, earlier), photos, shrink_to=None)
    with pytest.raises(InputError, match=r"conv1 has not moved .*; take a run that trained all"):
        highlight.stacked(earlier, earlier)
    differs = r"differs by \S+e-05 of its norm.*needs 0\.0001; take rounds farther apart"
    with pytest.raises(InputError, match=differs):
        highlight.stacked(moved(earlier, 0.5e-4), earlier)
    assert highlight.stacked(moved(earlier, 2e-4), earlier).out_channels == 128
    with torch.no_grad():
        later.weight[3] = torch.nan
    with pytest.raises(InputError, match="differs by nan"):
        highlight.stacked(later, earlier)
    with torch.no_grad():
        later.weight[3], later.bias[3] = earlier.weight[3], torch.inf
    with pytest.raises(InputError, match="not finite"):
        highlight.highlights(highlight.stacked(later, earlier), photos, shrink_to=None)


def test_two_means_ends_where_many_random_starts_do_and_takes_what_is_farther_from_zero():
    rng = np.random.default_rng(0)
    diff = np.where(rng.random((40, 50)) < 0.3, -2.0, 0.5) + rng.normal(0, 0.2, (40, 50))
    region = highlight.two_means(diff)
    assert np.array_equal(region, diff < -0.75)
    many = KMeans(2, n_init=20, random_state=1).fit(diff.reshape(-1, 1)).labels_
    assert max((region.ravel() == many).mean(), (region.ravel() != many).mean()) == 1
    with pytest.raises(InputError, match="one value everywhere"):
        highlight.two_means(np.ones((4, 4)))


def test_the_rising_map_is_larger_inside_the_region():
    diff = np.where(np.eye(6), -3.0, 1.0)
    for flip in (False, True):
        found = highlight.Highlight(
            0, np.ones(1), diff, diff, diff, highlight.two_means(diff, flip=flip)
        )
        assert found.rising[found.region].min() > found.rising[~found.region].max()


def test_the_region_lies_where_it_does_in_the_photo():
    region = np.zeros((63, 63), bool)
    region[21:42, :21] = True  # the middle third of the height, the left third of the width
    found = highlight.Highlight(3, np.array([1, 1, 1, 0.5]), *[region * 1.0] * 3, region)
    facts = found.facts((600, 300))
    assert facts == {
        "J": 3,
        "correlation": 0.5,
        "area_share": pytest.approx(1 / 9),
        "left": 0,
        "top": 100,
        "width": 200,
        "height": 100,
    }
    assert found.mask((600, 300)).shape == (300, 600)


def test_conv1_of_a_round_is_the_one_that_was_kept_and_another_round_is_refused(run):
    kept, layer = run.conv1(), highlight.conv1_of(run, 2)
    assert torch.equal(layer.weight, kept["round_02.weight"])
    assert layer.stride == run.network("last").conv1.stride
    with pytest.raises(InputError, match="rounds 1 to 2, not of round 3"):
        highlight.conv1_of(run, 3)


def test_the_pictures_have_the_size_of_the_photo_and_show_it_inside_the_region(layers, photos):
    photo = Image.fromarray(photos[0].permute(1, 2, 0).numpy()).resize((300, 200))
    found = highlight.highlights(highlight.stacked(*layers), photos[:1], shrink_to=None)[0]
    pictures = plots.highlight_pictures(photo, found)
    assert {picture.size for picture in pictures.values()} == {(300, 200)}
    inside = found.mask(photo.size)
    shown, original = np.asarray(pictures["region"]), np.asarray(photo)
    assert (shown == original).all(-1)[inside].mean() > 0.5  # all but the outline


def rsrl(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["rsrl", *map(str, words)])
    cli.main()


def test_rsrl_highlight_writes_a_picture_a_photo_and_one_table(
    run, coloured, monkeypatch, tmp_path
):
    files = coloured[0].table.path[:3].tolist()
    words = ["highlight", "--run", run.folder, "--rounds", "2", "1", "--out", tmp_path / "out"]
    rsrl(monkeypatch, *words, *files)
    table = pd.read_csv(tmp_path / "out" / "highlights.csv")
    names = ["photo", "J", "correlation", "area_share", "left", "top", "width", "height"]
    assert list(table) == names and table.photo.tolist() == files
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == [
        "00.png",
        "01.png",
        "02.png",
    ]
    assert Image.open(tmp_path / "out" / "00.png").size == (5 * 64, 48)
    assert (table.left + table.width <= 64).all() and (table.top + table.height <= 48).all()

    grey = tmp_path / "00.png"
    Image.new("RGB", (64, 48), (90, 90, 90)).save(grey)
    with pytest.raises(SystemExit, match=r"00\.png: No channel.*flat.*1 photo is done before it"):
        rsrl(monkeypatch, *words, files[1], grey)
    rsrl(monkeypatch, *words, files[0], grey, files[1], "--skip-broken")
    table = pd.read_csv(tmp_path / "out" / "highlights.csv")
    assert table.photo.tolist() == files[:2]
    assert (tmp_path / "out" / "00001_00.png").exists()
    assert (tmp_path / "out" / "01.png").exists()  # no other photo is called so
    with pytest.raises(SystemExit, match="not of round 9"):
        rsrl(
            monkeypatch, "highlight", "--run", run.folder, "--rounds", "9", "1", *words[6:], *files
        )

"""Networks of timm, modules of one's own, and several backbones under one head."""

import dataclasses
import json
import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import interpolate

from rsrl_lib import activation, features, highlight, network, pixels, rounds, summary
from rsrl_lib.backbones import Body, bodies_of, side_of
from rsrl_lib.comparing import sweeps
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.files import InputError
from rsrl_lib.interface import cli
from rsrl_lib.network import aesthetic_net, load_network, save_network
from rsrl_lib.pixels import Pixels, normalised
from rsrl_lib.recipe import Recipe, Training
from rsrl_lib.runs import open_run
from rsrl_lib.training import fine_tune, logits
from tests.conftest import ROOT
from tests.test_rounds import contents

timm = pytest.importorskip("timm", reason="networks of timm need the extra 'timm'")

LARGE = "timm:cs3darknet_focus_s"
"""Made for 256 px, which is more than the crops of torchvision's networks."""
QUICK = Training(epochs=1, shrink_to=64, precision="float32")
RECIPE = Recipe(
    backbone="timm:test_efficientnet",
    weights="none",
    rounds=2,
    drop=DropRule(k=(0.3,)),
    training=QUICK,
)
THREE = ("squeezenet1_1", "timm:test_resnet", "timm:test_efficientnet")


@pytest.fixture(scope="module")
def photos():
    generator = torch.Generator().manual_seed(3)
    small = torch.rand(2, 3, 9, 9, generator=generator)
    return (interpolate(small, (256, 256)) * 255).to(torch.uint8)


@pytest.fixture(scope="module")
def large(coloured, tmp_path_factory):
    """The tiny scored folder, decoded for a network that was made for larger photos."""
    scored, _ = coloured
    cache = tmp_path_factory.mktemp("large")
    return scored, pixels.decode(scored.table, cache=cache, side=side_of(LARGE))[0]


def altered(**changes):
    return dataclasses.replace(RECIPE, **changes)


def with_biases(net):
    """Weights and biases that are not small, so that an identity has to tell them apart."""
    with torch.no_grad():
        net.head.weight.mul_(100)
        net.head.bias.normal_(generator=torch.Generator().manual_seed(1))
    return net.eval()


# --- names


def test_without_timm_one_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"needs the extra 'timm'.*install rsrl-lib\[timm\]"):
        side_of("timm:resnet18")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("timm:efficientnet_lite00", "timm:efficientnet_lite0"),
        ("timm:test_vit.no_such_weights", "timm:test_vit.r160_in1k"),
        ("timm:hf-hub:timm/test_vit", "timm:test_vit"),
        ("timm:../../weights", "timm:"),
    ],
)
def test_a_name_that_timm_has_not_is_refused_with_the_nearest(name, nearest):
    for ask in (side_of, lambda name: aesthetic_net(name, [3, 4], weights="none")):
        with pytest.raises(InputError, match=r"timm .* has no network") as told:
            ask(name)
        assert nearest in str(told.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"backbone": "alexne"}, "There is no backbone 'alexne'; choose one of alexnet, vgg16, "),
        ({"backbone": "timm:"}, "or timm:NAME"),
        ({"backbone": 5}, "backbone must be one of alexnet, .* not 5"),
        ({"backbone": ()}, "backbone needs a name or more"),
        ({"backbone": ("alexnet", "vgg16"), "tune": "all"}, "needs tune 'head', not 'all'"),
        ({"backbone": ("alexnet", "vgg16"), "tune": "head-first"}, "tune 'head', not 'head-first'"),
        ({"backbone": ("alexnet", "alexnet"), "tune": "head"}, "each given once"),
        ({"backbone": ("alexnet", "own"), "tune": "head"}, "and 'own' alone"),
        ({"backbone": ("alexnet", "x"), "tune": "head"}, "There is no backbone 'x'"),
        ({"weights": ("none", "imagenet")}, "found are 2 for 1"),
        ({"backbone": THREE, "tune": "head", "weights": ("none",) * 2}, "found are 2 for 3"),
        ({"backbone": "own"}, "goes with weights 'own'"),
        ({"weights": "own"}, "goes with weights 'own'"),
        ({"training": Training(shrink_to=32)}, "shrink_to must be 33 or more"),
    ],
)
def test_backbones_that_do_not_go_are_refused_in_a_sentence(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        altered(**changes)


def test_a_list_of_one_is_that_one_and_is_written_so(tmp_path):
    assert altered(backbone=["vgg16"], weights=("none",)) == altered(backbone="vgg16")


def test_weights_that_cannot_be_downloaded_are_told_as_torchvisions_are(monkeypatch):
    def unreachable(*_args, **_kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("timm.models._builder.load_pretrained", unreachable)
    with pytest.raises(InputError, match=r"timm:test_vit could not .*no route.*'none'"):
        aesthetic_net("timm:test_vit", [3, 4])


# --- what timm's networks see


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_photos_reach_a_network_of_timm_as_its_configuration_says(name, photos):
    net = aesthetic_net(f"timm:{name}", [3, 4], weights="none").eval()
    own = timm.create_model(name, num_classes=0).eval()
    own.load_state_dict(net.body.state_dict())
    config = timm.data.resolve_data_config(model=own)
    mean, std = (torch.tensor(config[each]).view(3, 1, 1) for each in ("mean", "std"))
    with torch.inference_mode():
        expected = own((photos / 255 - mean) / std)
        assert torch.allclose(net.features(normalised(photos)), expected, atol=1e-5)


def test_a_network_of_one_size_is_given_photos_of_that_size(photos):
    net = aesthetic_net("timm:test_vit", [3, 4], weights="none").eval()
    own = timm.create_model("test_vit", num_classes=0).eval()
    own.load_state_dict(net.body.state_dict())
    shrunk = interpolate(photos.float(), (160, 160), mode="bicubic", antialias=True)
    with torch.inference_mode():
        expected = own((shrunk / 255 - 0.5) / 0.5)
        assert torch.allclose(net.features(normalised(photos)), expected, atol=1e-5)
        for shrink_to in (64, 200):
            assert net(normalised(photos, shrink_to=shrink_to)).shape == (2, 2)


@pytest.fixture
def lite0(shared):
    return str(shared / "weights" / "tf_efficientnet_lite0-imagenet.safetensors")


def test_real_weights_of_timm_give_timms_features(lite0, shared, tmp_path):
    crops = of_oasis(shared, tmp_path, ["133.jpg", "001.jpg"]).crops([0, 1], view="whole")
    net = aesthetic_net("timm:tf_efficientnet_lite0", [3, 4], weights=lite0).eval()
    own = timm.create_model("tf_efficientnet_lite0").eval()
    own.load_state_dict(load_file(lite0))
    with torch.inference_mode():
        maps = own.forward_features((crops / 255 - 0.5) / 0.5)
        expected = maps.mean((2, 3))
        assert torch.allclose(net.features(normalised(crops)), expected, atol=1e-4)


# Five photos whose class of ImageNet is plain: three of acorns, a castle, a tabby.
PLAIN = {"001.jpg": 988, "002.jpg": 988, "003.jpg": 988, "100.jpg": 483, "133.jpg": 281}


@pytest.mark.parametrize("view", ["centre", "whole"])
def test_real_weights_and_their_own_classifier_name_what_a_photo_shows(
    view, lite0, shared, tmp_path
):
    crops = of_oasis(shared, tmp_path, list(PLAIN)).crops(range(5), view=view)
    net = aesthetic_net("timm:tf_efficientnet_lite0", range(1000), weights=lite0).eval()
    state = load_file(lite0)
    net.head.load_state_dict(
        {"weight": state["classifier.weight"], "bias": state["classifier.bias"]}
    )
    with torch.inference_mode():
        five = net(normalised(crops)).topk(5).indices.tolist()
    wanted = list(PLAIN.values())
    assert all(node in likeliest for node, likeliest in zip(wanted, five, strict=True))
    assert [likeliest[0] for likeliest in five[:4]] == wanted[:4]
    cats = {281, 282, 283, 285}
    assert five[4][0] in cats


def of_oasis(shared, folder, names):
    paths = [str(shared / "oasis" / "photos" / name) for name in names]
    return pixels.decode(pd.DataFrame({"photo": names, "path": paths}), cache=folder)[0]


# --- saved and read


@pytest.mark.parametrize(
    "backbone",
    [
        *("timm:test_efficientnet", "timm:test_vit", "timm:test_vit_relpos", "timm:test_maxvit"),
        LARGE,
        THREE,
    ],
)
def test_a_network_comes_back_as_it_was_saved(backbone, tmp_path, photos):
    net = aesthetic_net(backbone, [3, 4], weights="none", seed=5).eval()
    save_network(net, tmp_path / "net.safetensors")
    state = torch.get_rng_state()
    again, _ = load_network(tmp_path / "net.safetensors")
    assert torch.equal(torch.get_rng_state(), state)
    assert (again.backbone, again.side) == (net.backbone, net.side)
    assert network.side_of_network(tmp_path / "net.safetensors") == net.side
    with torch.inference_mode():
        given = normalised(photos)
        assert torch.equal(again.eval()(given), net(given))


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"backbone": "timm:os.system"}, "has no network 'os.system'"),
        ({"backbone": "timm:test_vit"}, "do not go together"),
        ({"backbone": "squeezenet1_1 squeezenet1_1"}, "each given once"),
        ({"backbone": "own"}, "does not hold; give it by body="),
    ],
)
def test_facts_of_a_file_that_cannot_be_are_refused(facts, sentence, tmp_path):
    net = aesthetic_net("squeezenet1_1", [3, 4], weights="none")
    path = tmp_path / "net.safetensors"
    save_file(net.state_dict(), path, {"scores": "3 4", **facts})
    with pytest.raises(InputError, match=sentence):
        load_network(path)
    save_file(net.state_dict(), path, {"scores": "3 4", "backbone": "x", "side": "1000000"})
    with pytest.raises(InputError, match="photos of 1000000 pixels"):
        network.side_of_network(path)


# --- photos of other sides


def test_crops_of_larger_photos_have_the_size_that_the_network_was_made_for():
    for size in range(228, 1100):
        assert pixels.crop_of(pixels.side_for(size)) == size
    assert {pixels.side_for(size) for size in (32, 160, 224, 227)} == {256}
    assert pixels.five_corners(289) == [(0, 0), (0, 33), (33, 0), (33, 33), (16, 16)]


def test_photos_of_another_side_have_files_of_their_own(coloured, large, tmp_path):
    table = coloured[0].table[:3]
    plain, _ = pixels.decode(table, cache=tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    larger, _ = pixels.decode(table, cache=tmp_path, side=289)
    assert larger.array.shape == (3, 289, 289, 3) and plain.side == 256
    assert names < {path.name for path in tmp_path.iterdir()}
    assert f"{plain.name}.npy" in names and "px" not in plain.name
    assert larger.fingerprint == plain.fingerprint
    crops = larger.crops([2, 0], view="centre").permute(0, 2, 3, 1).numpy()
    assert (crops == larger.array[[2, 0], 16:272, 16:272]).all()
    assert larger.crops([0], view="random").shape == (1, 3, 256, 256)
    halved = normalised(larger.crops([0], view="centre"), shrink_to=113.5)
    assert halved.shape[2:] == (128, 128)


def test_photos_of_another_side_than_the_networks_are_refused(coloured, large, tmp_path):
    scored, plain = coloured
    sentence = r"needs photos decoded at {} px, these are of {} px; decode them by decode\("
    for backbone, decoded, sides in (
        (LARGE, plain, (289, 256)),
        ("timm:test_resnet", large[1], (256, 289)),
    ):
        net = aesthetic_net(backbone, [3, 4], weights="none")
        whole = decoded.crops([0], view="whole")
        targets = torch.zeros(4, dtype=int)
        asked = [
            partial(logits, net, decoded),
            partial(features.features, net, decoded),
            partial(fine_tune, net, decoded, np.arange(4), targets, QUICK, seed=0),
            partial(activation.activation_maps, net, whole, shrink_to=None),
        ]
        for ask in asked:
            with pytest.raises(InputError, match=sentence.format(*sides)):
                ask()
    with pytest.raises(InputError, match=sentence.format(289, 256)):
        rounds.repeat(scored, plain, tmp_path / "run", altered(backbone=LARGE))
    assert not (tmp_path / "run").exists()


def test_a_run_of_larger_photos_is_trained_read_and_looked_at(large, tmp_path):
    scored, decoded = large
    run = rounds.repeat(scored, decoded, tmp_path / "run", altered(backbone=LARGE))
    assert run.side == decoded.side == 289
    judged = run.samples[run.samples["round"] == 2].assigned_logit
    values = logits(run.network("last"), decoded, **run.view)
    np.testing.assert_allclose(values.max(1), judged, atol=1e-4)
    pair = highlight.stacked(highlight.conv1_of(run, 2), highlight.conv1_of(run, 1))
    whole = decoded.crops([3], view="whole")
    assert highlight.highlights(pair, whole, shrink_to=64)[0].region.any()
    with pytest.raises(InputError, match="decoded at 289 px, these are of 256"):
        highlight.highlights(pair, whole[..., :256, :256], shrink_to=64)


# --- activation maps


def means_and_logits(net, photos, shrink_to=None):
    maps = activation.activation_maps(net, photos, shrink_to=shrink_to)
    means = [[m.mean(dtype=np.float64) for m in of_photo.levels.values()] for of_photo in maps]
    with torch.inference_mode():
        expected = net(normalised(photos, shrink_to=shrink_to)) - net.head.bias
    largest = max(np.abs(list(of_photo.levels.values())).max() for of_photo in maps)
    return np.array(means), expected.numpy(), largest


@pytest.mark.parametrize(
    "backbone",
    [
        *("timm:test_efficientnet", "timm:test_resnet", "timm:test_nfnet", "timm:test_byobnet"),
        *("timm:swin_tiny_patch4_window7_224", THREE, ("resnet18", "timm:test_resnet")),
    ],
)
@pytest.mark.parametrize("shrink_to", [None, 96])
def test_the_mean_of_a_map_is_the_logit_without_its_bias(backbone, shrink_to, photos):
    net = with_biases(aesthetic_net(backbone, [2, 3, 5], weights="none"))
    means, expected, largest = means_and_logits(net, photos, shrink_to)
    np.testing.assert_allclose(means, expected, rtol=0, atol=3e-6 * largest)
    activation.check_maps(net, shrink_to=shrink_to)


@pytest.mark.parametrize(
    "backbone",
    [
        *("timm:test_vit", "timm:test_convnext", "timm:test_mambaout"),
        *("timm:mobilenetv3_small_050", ("squeezenet1_1", "timm:test_vit")),
    ],
)
def test_what_is_no_mean_of_maps_has_no_maps(backbone, photos):
    net = with_biases(aesthetic_net(backbone, [3, 4], weights="none"))
    for ask in (activation.check_maps, lambda net, **how: means_and_logits(net, photos)):
        with pytest.raises(InputError, match=r"need a head of global average pooling.* no mean"):
            ask(net, shrink_to=64)


def test_each_backbone_has_its_own_map_and_all_add_up_to_the_decision(photos):
    net = with_biases(aesthetic_net(THREE, [2, 3, 5], weights="none"))
    together = activation.activation_maps(net, photos, shrink_to=96)
    of_each = {}
    for name in THREE:
        how = {"shrink_to": 96, "backbone": name}
        of_each[name] = activation.activation_maps(net, photos, **how)
    for n, of_all in enumerate(together):
        for level, expected in of_all.levels.items():
            own = [torch.tensor(maps[n].levels[level]) for maps in of_each.values()]
            np.testing.assert_allclose(activation.on_one_grid(own), expected, atol=1e-5)
    grids = {maps[0].high.shape for maps in of_each.values()}
    assert len(grids) > 1  # each on its own
    with pytest.raises(InputError, match="no backbone 'alexnet'; it has squeezenet1_1, timm"):
        activation.activation_maps(net, photos, shrink_to=96, backbone="alexnet")


def test_maps_on_other_grids_are_added_by_area_and_keep_their_means():
    coarse = torch.tensor([[1.0, 3.0], [5.0, 7.0]])
    fine = torch.arange(9.0).view(3, 3)
    total = activation.on_one_grid([coarse, fine])
    # A middle cell of three covers half of each of two.
    expected = torch.tensor([[1, 2, 3], [3, 4, 5], [5, 6, 7.0]]) + fine
    assert torch.allclose(total, expected)
    for sides in ((2, 3), (15, 13), (7, 16)):
        maps = [torch.randn(2, side, side + 1, dtype=torch.float64) for side in sides]
        means = sum(each.mean((1, 2)) for each in maps)
        assert torch.allclose(activation.on_one_grid(maps).mean((1, 2)), means)


# --- runs


@pytest.fixture(scope="module")
def runs(coloured, tmp_path_factory):
    """A run of a network of timm by each way of tuning, and one of three backbones."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for tune in ("all", "head"):
        made[tune] = rounds.repeat(*coloured, folder / tune, altered(tune=tune))
    joined = altered(tune="head", backbone=THREE, weights=("starter", "none", "none"))
    made["joined"] = rounds.repeat(*coloured, folder / "joined", joined)
    return made


@pytest.mark.parametrize("which", ["all", "head", "joined"])
def test_the_network_of_a_run_judges_as_its_samples_say(which, runs, coloured):
    run = open_run(runs[which].folder)
    judged = run.samples[run.samples["round"] == 2].assigned_logit
    values = logits(run.network("last"), coloured[1], **run.view)
    np.testing.assert_allclose(values.max(1), judged, atol=1e-4)


def test_a_broken_off_run_of_a_network_of_timm_ends_the_same(runs, coloured, tmp_path):
    rounds.repeat(*coloured, tmp_path / "run", altered(rounds=1))
    again = rounds.repeat(*coloured, tmp_path / "run", RECIPE)
    assert contents(again.folder) == contents(runs["all"].folder)


def test_highlights_of_a_network_of_timm_are_those_of_its_own_first_layer(coloured, tmp_path):
    recipe = altered(backbone="timm:tf_efficientnet_lite0")  # pads as TensorFlow does
    run = rounds.repeat(*coloured, tmp_path / "run", recipe)
    later, earlier = highlight.conv1_of(run, 2), highlight.conv1_of(run, 1)
    pair = highlight.stacked(later, earlier)
    photo = coloured[1].crops([5], view="whole")
    found = highlight.highlights(pair, photo, shrink_to=64)[0]
    net = run.network("last").eval()
    seen = []
    net.conv1.register_forward_hook(lambda _layer, _given, maps: seen.append(maps))
    with torch.inference_mode():
        net(normalised(photo, shrink_to=64))
    assert torch.equal(net.conv1.weight, later.weight)
    np.testing.assert_allclose(found.later, seen[0][0, found.channel].numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("which", "sentence"), [("head", "has not moved"), ("joined", "has none or several")]
)
def test_where_no_first_layer_moved_there_are_no_highlights(which, sentence, runs):
    with pytest.raises(InputError, match=sentence):
        highlight.stacked(highlight.conv1_of(runs[which], 2), highlight.conv1_of(runs[which], 1))


def test_grad_cam_is_refused_for_other_networks(runs, photos):
    with pytest.raises(InputError, match="not for timm:test_efficientnet; take activation_maps"):
        activation.grad_cam(runs["all"].network(), photos, "3", shrink_to=None)


# --- several backbones


def test_joined_features_are_those_of_each_and_lie_on_the_disk_once(coloured, tmp_path):
    few = dataclasses.replace(coloured[1], array=coloured[1].array[:5], folder=tmp_path)
    alone = []
    for backbone in THREE[:2]:
        net = aesthetic_net(backbone, [3, 4], weights="none", seed=2)
        save_file(net.state_dict(), tmp_path / f"{backbone[-6:]}.safetensors")
        alone.append(features.features(net, few, shrink_to=64))
    weights = [str(tmp_path / f"{backbone[-6:]}.safetensors") for backbone in THREE[:2]]
    kept = {path.name for path in tmp_path.glob("*.features.npy")}
    joined = aesthetic_net(THREE, [3, 4], weights=[*weights, "none"])
    together = features.features(joined, few, shrink_to=64)
    added = {path.name for path in tmp_path.glob("*.features.npy")} - kept
    assert len(kept) == 2 and len(added) == 1
    assert together.shape == (5, joined.head.in_features)
    np.testing.assert_array_equal(together[:, :-256], np.concatenate(alone, 1))


def test_a_network_beside_a_larger_one_sees_photos_of_its_own_side(large):
    joined = aesthetic_net((LARGE, "squeezenet1_1", "timm:test_vit"), [3, 4], weights="none")
    assert joined.side == 289
    whole = normalised(large[1].crops([0, 1], view="whole"))
    shrunk = interpolate(whole, (256, 256), mode="bilinear", antialias=True)
    joined.eval()
    with torch.inference_mode():
        _, own, of_vit = joined.features(whole).split([512, 512, 64], 1)
        assert torch.allclose(own, joined.body[1](shrunk), atol=1e-5)
        alone = bodies_of("timm:test_vit", "fc")[0]
        alone.module.load_state_dict(joined.body[2].state_dict())
        assert torch.allclose(
            of_vit,
            alone.__class__(alone.module.eval(), 64, prepare=alone.prepare)(whole),
            atol=1e-5,
        )


def test_a_run_of_several_backbones_tells_of_them(runs, tmp_path, coloured):
    run = runs["joined"]
    written = json.loads((run.folder / "run.json").read_text())["recipe"]
    assert written["backbone"] == list(THREE) and written["weights"][0] == "starter"
    assert (
        json.loads((runs["all"].folder / "run.json").read_text())["recipe"]["backbone"]
        == "timm:test_efficientnet"
    )
    assert run.rounds.conv1_change.isna().all() and run.conv1() == {}
    net = run.network()
    start = network.STARTER
    assert torch.equal(
        net.body[0].features[0].weight, load_file(start)["features.0.weight"].float()
    )
    with_biases(net)
    joined = altered(tune="head", backbone=THREE, weights=("starter", "none", "none"))
    begun = dataclasses.replace(joined, rounds=3)
    said = summary.of_start(coloured[0], run, begun)[-1]
    assert "the head of squeezenet1_1, timm:test_resnet and timm:test_efficientnet" in said
    assert "from weights 'starter', 'none' and 'none'" in said
    again = rounds.repeat(*coloured, run.folder, joined)
    assert len(again.rounds) == 2
    with pytest.raises(InputError, match="another recipe"):
        rounds.repeat(*coloured, run.folder, altered(tune="head"))


# --- a module of one's own


class Small(nn.Module):
    """As somebody might write one: two layers and a function, which its state does not tell."""

    def __init__(self, act=torch.relu):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 7, stride=4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.act = act

    def forward(self, photos):
        return self.pool(self.act(self.conv(photos))).flatten(1)


OWN = altered(backbone="own", weights="own")


@pytest.fixture(scope="module")
def own():
    torch.manual_seed(4)
    return Body(Small(), width=8)


@pytest.mark.parametrize("tune", ["all", "head"])
def test_a_module_of_ones_own_is_trained_saved_and_read(tune, own, coloured, tmp_path):
    recipe = dataclasses.replace(OWN, tune=tune)
    before = own.module.conv.weight.clone()
    run = rounds.repeat(*coloured, tmp_path / "run", recipe, body=own)
    assert torch.equal(own.module.conv.weight, before)
    net = run.network("last", body=own)
    assert torch.equal(net.conv1.weight, before) == (tune == "head")
    judged = run.samples[run.samples["round"] == 2].assigned_logit
    np.testing.assert_allclose(logits(net, coloured[1], **run.view).max(1), judged, atol=1e-4)
    assert not torch.equal(net.body.conv.weight, run.network("last", body=own).conv1.weight + 1)
    more = dataclasses.replace(recipe, rounds=3)
    assert len(rounds.repeat(*coloured, run.folder, more, body=own).rounds) == 3
    for ask in (run.network, lambda: rounds.repeat(*coloured, run.folder, more)):
        with pytest.raises(InputError, match=r"body="):
            ask()
    whole = coloured[1].crops([0, 1], view="whole")
    means, expected, largest = means_and_logits(with_biases(net), whole)
    np.testing.assert_allclose(means, expected, rtol=0, atol=3e-6 * largest)
    layers = [highlight.conv1_of(run, i, body=own) for i in (2, 1)]
    if tune == "all":
        assert highlight.highlights(highlight.stacked(*layers), whole, shrink_to=64)


def test_networks_of_halves_are_copies_of_ones_own_module(own, coloured, tmp_path):
    recipe = dataclasses.replace(OWN, control="cross-fitted")
    run = rounds.repeat(*coloured, tmp_path / "run", recipe, body=own)
    assert len(run.rounds) == 2


def test_a_body_and_a_recipe_that_does_not_know_of_it_are_refused(own, coloured, tmp_path):
    with pytest.raises(InputError, match="the recipe has 'timm:test_efficientnet'"):
        rounds.repeat(*coloured, tmp_path / "run", RECIPE, body=own)
    net = aesthetic_net("timm:test_resnet", [3, 4], weights="none")
    save_network(net, tmp_path / "net.safetensors")
    with pytest.raises(InputError, match="is of timm:test_resnet, a body is given"):
        load_network(tmp_path / "net.safetensors", body=own)
    wrong = dataclasses.replace(own, width=9)
    with pytest.raises(InputError, match=r"is to give 32 x 9 features .* and gives 32 x 8"):
        rounds.repeat(*coloured, tmp_path / "run", OWN, body=wrong)
    net = aesthetic_net(Body(nn.LSTM(227, 8), 8), [3, 4], weights="own")
    with pytest.raises(InputError, match="and gives a tuple; give its width"):
        net.parts[0](torch.zeros(2, 227))
    with pytest.raises(InputError, match="found are 2 for 3; give as many"):
        aesthetic_net(THREE, [3, 4], weights=["none", "starter"])
    save_network(aesthetic_net(own, [3, 4], weights="own"), tmp_path / "own.safetensors")
    with pytest.raises(InputError, match=r"do not (fit|go together)"):
        load_network(tmp_path / "own.safetensors", body=wrong)


def test_features_are_told_apart_by_what_a_body_computes(own, coloured, tmp_path):
    few = dataclasses.replace(coloured[1], array=coloured[1].array[:5], folder=tmp_path)
    other = Small(torch.tanh)
    other.load_state_dict(own.module.state_dict())
    bodies = (own, Body(other, 8), own)
    values = [features.features(aesthetic_net(b, [3], weights="own"), few) for b in bodies]
    assert len(list(tmp_path.glob("*.features.npy"))) == 2
    assert not np.array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0], values[2])


def test_a_module_without_a_convolution_has_no_highlights(coloured, tmp_path):
    flat = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 5))
    run = rounds.repeat(*coloured, tmp_path / "run", OWN, body=Body(flat, 5))
    assert run.rounds.conv1_change.isna().all()
    with pytest.raises(InputError, match="own has none or several"):
        highlight.conv1_of(run, 1, body=Body(flat, 5))


def test_without_a_folder_features_are_computed_all_the_same(own, coloured):
    few = Pixels(coloured[1].array[:5])
    assert features.features(aesthetic_net(own, [3], weights="own"), few).shape == (5, 8)


# --- commands and grids


def command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["rsrl", *map(str, words)])
    cli.main()


@pytest.fixture
def trained(coloured, tmp_path, monkeypatch):
    """A function that trains by the command, on the tiny folder."""
    folder = Path(coloured[0].table.path[0]).parent

    def train(name, *options):
        words = ["train", "--photos", folder, "--scores", folder / "scores.csv"]
        words += ["--run", tmp_path / name, "--cache", tmp_path / "cache", "--rounds", "1"]
        words += ["--epochs", "1", "--shrink-to", "64", "--weights", "none", *options]
        command(monkeypatch, *words)
        return tmp_path / name

    return train


def test_commands_decode_photos_as_the_network_of_each_run_needs_them(
    trained, coloured, tmp_path, monkeypatch, capsys
):
    folder = Path(coloured[0].table.path[0]).parent
    large = trained("large", "--backbone", LARGE, "--other", folder)
    joined = trained("joined", "--backbone", *THREE, "--tune", "head")
    assert "Up to 1 rounds of the head of squeezenet1_1, timm:test_resnet and" in (
        capsys.readouterr().out
    )
    runs = ["--run", joined, "--run", large]
    some = [folder / name for name in ("07.png", "00.png", "31.png")]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    table = tmp_path / "together.csv"
    words = ["assess", *runs, *some, broken, "--csv", table, "--skip-broken"]
    command(monkeypatch, *words)
    assert capsys.readouterr().err.count("left out: ") == 1
    together = pd.read_csv(table).filter(like="likelihood")
    each = []
    for run in (joined, large):
        command(monkeypatch, "assess", "--run", run, *some, "--csv", table)
        each.append(pd.read_csv(table).filter(like="likelihood"))
        command(monkeypatch, "crop", "--run", run, *some, "--out", tmp_path / f"{run.name}_crops")
        assert len(pd.read_csv(tmp_path / f"{run.name}_crops" / "crops.csv")) == 3
    np.testing.assert_allclose(together, (each[0] + each[1]) / 2, atol=1e-6)

    words = ["highlight", "--rounds", "2", "1", *some, "--out", tmp_path / "highlights", "--run"]
    for run, sentence in ((joined, "none or several"), (large, "conv1 of rounds 1 to 1")):
        with pytest.raises(SystemExit, match=sentence):
            command(monkeypatch, *words, run)
    trained("large", "--backbone", LARGE, "--other", folder, "--rounds", "2")
    command(monkeypatch, *words, large)
    assert len(pd.read_csv(tmp_path / "highlights" / "highlights.csv")) == 3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--backbone", "timm:resnet19"], "timm .* has no network 'resnet19'; the nearest are"),
        (["--backbone", "vgg61"], "There is no backbone 'vgg61'; choose one of alexnet"),
        (["--backbone", "alexnet", "vgg16"], "needs tune 'head'"),
        (["--backbone", "own", "--weights", "own"], "only Python can give"),
    ],
)
def test_a_command_that_cannot_be_ends_in_a_sentence(options, sentence, trained, tmp_path):
    with pytest.raises(SystemExit, match=sentence):
        trained("run", *options)
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())


def test_help_names_the_backbones_of_torchvision(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        command(monkeypatch, "train", "--help")
    told = "".join(capsys.readouterr().out.split())
    assert "{alexnet,vgg16,squeezenet1_0,squeezenet1_1,resnet18}" in told and "timm:NAME" in told


def test_a_grid_has_arms_of_several_backbones_and_sides(coloured, tmp_path):
    folder = Path(coloured[0].table.path[0]).parent
    net = aesthetic_net("timm:test_resnet", [3, 4], weights="none", seed=1)
    save_file(net.body.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "grid.toml").write_text(
        f"""
[photos]
folder = "{folder}"
scores = "{folder}/scores.csv"
[common]
tune = "head"
weights = "none"
rounds = 1
k = [0.3]
shrink_to = 64
[arms.joined]
backbone = ["squeezenet1_1", "timm:test_resnet"]
weights = ["starter", "w.safetensors"]
[arms.large]
backbone = "{LARGE}"
"""
    )
    told = []
    how = {"jobs": 1, "cache": tmp_path / "cache", "say": told.append}
    table = sweeps.sweep(tmp_path / "grid.toml", tmp_path / "out.csv", **how)
    assert table.arm.tolist() == ["joined", "large"]
    arrays = [path.name for path in (tmp_path / "cache").glob("*.npy")]
    assert sum("289px" in name for name in arrays) == 3  # photos, broken ones, features
    assert sum(".features" in name for name in arrays) == 3
    wrong = (tmp_path / "grid.toml").read_text().replace("timm:test_resnet", "timm:test_rasnet")
    (tmp_path / "grid.toml").write_text(wrong)
    with pytest.raises(InputError, match="has no network 'test_rasnet'"):
        sweeps.sweep(tmp_path / "grid.toml", tmp_path / "other.csv", **how)


def test_explorers_look_at_photos_of_the_side_of_the_run(large, tmp_path):
    pytest.importorskip("ipywidgets")
    from rsrl_lib.interface import widgets

    scored, decoded = large
    run = rounds.repeat(scored, decoded, tmp_path / "run", altered(backbone=LARGE))
    for explorer in (widgets.highlight_explorer, widgets.crop_explorer):
        assert explorer(run, scored.table) is not None


def test_the_lines_of_the_guide_that_train_a_module_of_ones_own_run(
    coloured, tmp_path, monkeypatch
):
    guide = (ROOT / "docs" / "variants.md").read_text()
    code = re.search(r"```python\n(.+?)```", guide, flags=re.S)[1]
    assert len(code.splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    layers = nn.Conv2d(3, 16, 9, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    seen = dict(zip(("photos", "pixels"), coloured, strict=True), my_net=nn.Sequential(*layers))
    exec(code, seen)
    assert torch.equal(seen["network"].conv1.weight, layers[0].weight)
    assert (tmp_path / "runs" / "own" / "run.json").exists()


# --- what a network cannot do


@pytest.mark.parametrize("name", ["repvgg_a0", "crossvit_tiny_240"])
def test_of_several_convolutions_that_look_at_the_photo_none_is_the_first(name):
    with torch.device("meta"):
        net = network.AestheticNet(f"timm:{name}", [3, 4])
    assert net.conv1 is None


def test_photos_that_a_network_cannot_look_at_are_told_in_a_sentence():
    net = aesthetic_net("timm:dla34", [3, 4], weights="none")
    with pytest.raises(InputError, match="dla34 cannot look at 2 photos of 227 x 227 pixels"):
        net(torch.zeros(2, 3, 227, 227))


def test_photos_that_are_prepared_otherwise_than_when_trained_are_refused(tmp_path, monkeypatch):
    net = aesthetic_net("timm:test_resnet", [3, 4], weights="none")
    save_network(net, tmp_path / "net.safetensors")
    state, facts = network._read(tmp_path / "net.safetensors")
    facts["prepared"] = facts["prepared"].replace("means=(", "means=(0.1")
    save_file(state, tmp_path / "other.safetensors", facts)
    with pytest.raises(InputError, match="as another version of timm prepares them"):
        load_network(tmp_path / "other.safetensors")
    facts["backbone"] = " ".join(f"timm:a{n}" for n in range(17))
    save_file(state, tmp_path / "many.safetensors", facts)
    with pytest.raises(InputError, match="more than 16 backbones"):
        load_network(tmp_path / "many.safetensors")


class Tied(Small):
    """Two layers that share their weights, and a pooling that is never called."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.never = nn.AdaptiveAvgPool2d(1)


def test_layers_that_share_weights_are_saved_and_one_that_is_not_called_has_no_maps(
    tmp_path, photos
):
    torch.manual_seed(0)
    module = Tied()
    width = module(torch.zeros(1, 3, 64, 64)).shape[1]
    body = Body(module, width)
    net = aesthetic_net(body, [3, 4], weights="own")
    save_network(net, tmp_path / "net.safetensors")
    again, _ = load_network(tmp_path / "net.safetensors", body=body)
    assert torch.equal(again.body.second.weight, net.body.first.weight)
    with pytest.raises(InputError, match="is no mean of maps"):
        activation.activation_maps(net, photos, shrink_to=None)

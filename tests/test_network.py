from urllib.error import URLError

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision import models

from rsrl_lib import network as n
from rsrl_lib.files import InputError

PHOTOS = torch.randn(2, 3, 227, 227, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("backbone", "last"),
    [("alexnet", "classifier.6"), ("resnet18", "fc"), ("squeezenet1_1", "classifier.1")],
)
def test_with_torchvisions_last_layer_the_network_computes_torchvisions_function(
    backbone, last, tmp_path
):
    trusted = models.get_model(backbone, weights=None).eval()
    save_file(trusted.state_dict(), tmp_path / "whole.safetensors")
    ours = n.aesthetic_net(
        backbone, range(1000), weights=str(tmp_path / "whole.safetensors")
    ).eval()
    layer = trusted.get_submodule(last)
    ours.head.load_state_dict({"weight": layer.weight.flatten(1), "bias": layer.bias})
    if backbone.startswith("squeezenet"):
        trusted.classifier[2] = torch.nn.Identity()  # the ReLU that keeps likelihoods above 0.5
    with torch.inference_mode():
        assert torch.allclose(ours(PHOTOS), trusted(PHOTOS), atol=1e-4)


@pytest.mark.parametrize("backbone", ["alexnet", "squeezenet1_0", "vgg16"])
def test_conv1_is_the_first_convolution(backbone):
    with torch.device("meta"):  # VGG-16's half gigabyte is not needed to look at its shape
        network = n.AestheticNet(backbone, [3, 4])
    assert network.conv1.in_channels == 3
    assert network.conv1 is next(iter(network.body.features))


def test_the_head_stays_in_float32_under_autocast():
    network = n.aesthetic_net("squeezenet1_1", [3, 4], weights="none").eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert network(PHOTOS).dtype == torch.float32


def test_a_stored_network_comes_back_with_its_scores(tmp_path):
    network = n.aesthetic_net("squeezenet1_1", [2, 5, 7], weights="none", seed=3).eval()
    n.save_network(network, tmp_path / "net.safetensors", round=4)
    again, facts = n.load_network(tmp_path / "net.safetensors")
    assert again.scores == [2, 5, 7]
    assert facts["round"] == "4"
    with torch.inference_mode():
        assert torch.equal(again.eval()(PHOTOS), network(PHOTOS))


def test_the_same_seed_draws_the_same_network_without_touching_the_global_generator():
    state = torch.get_rng_state()
    first, again = (n.aesthetic_net("squeezenet1_1", [3, 4], weights="none", seed=9) for _ in "12")
    assert torch.equal(first.head.weight, again.head.weight)
    assert torch.equal(first.conv1.weight, again.conv1.weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_unreachable_download_is_an_error_that_names_the_other_weights(monkeypatch):
    def unreachable(*_args, **_kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(InputError, match=r"no route.*'starter'.*safetensors file.*'none'"):
        n.aesthetic_net("alexnet", [3, 4])


def test_weights_of_another_network_a_missing_file_and_a_pickle_are_refused(tmp_path):
    save_file(models.squeezenet1_0().state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"do not fit squeezenet1_1: of its 50 tensors"):
        n.aesthetic_net("squeezenet1_1", [3, 4], weights=str(tmp_path / "other.safetensors"))
    with pytest.raises(InputError, match="There are no weights at"):
        n.aesthetic_net("squeezenet1_1", [3, 4], weights=str(tmp_path / "nothing"))
    torch.save({}, tmp_path / "pickle.pt")
    with pytest.raises(InputError, match="no readable safetensors file"):
        n.aesthetic_net("squeezenet1_1", [3, 4], weights=str(tmp_path / "pickle.pt"))


def test_the_body_holds_the_starter_weights():
    network = n.aesthetic_net("squeezenet1_1", [3, 4], weights="starter")
    stored = load_file(n.STARTER)
    for name, values in network.body.state_dict().items():
        assert torch.equal(values, stored[name].float())


def test_starter_weights_are_refused_for_a_network_that_they_are_not_of():
    with pytest.raises(InputError, match=r"squeezenet1_1, not of alexnet"):
        n.aesthetic_net("alexnet", [3, 4], weights="starter")


def test_missing_starter_weights_are_not_recommended(monkeypatch, tmp_path):
    monkeypatch.setattr(n, "STARTER", tmp_path / n.STARTER.name)
    with pytest.raises(InputError, match=r"come with rsrl-lib.*install it again") as told:
        n.aesthetic_net("squeezenet1_1", [3, 4], weights="starter")
    assert "'starter'" not in str(told.value)


def test_an_unknown_backbone_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="choose one of alexnet"):
        n.AestheticNet("lenet", [3, 4])


def test_real_imagenet_weights_fit_the_network(shared):
    weights = shared / "weights" / "squeezenet1_0-imagenet.safetensors"
    network = n.aesthetic_net("squeezenet1_0", [3, 4], weights=str(weights))
    assert network.conv1.weight.shape == (96, 3, 7, 7)


@pytest.mark.parametrize(("backbone", "last"), [("alexnet", 12), ("vgg16", 30)])
def test_the_gap_head_averages_the_maps_that_torchvisions_last_pooling_would_read(
    backbone, last, tmp_path
):
    trusted = models.get_model(backbone, weights=None).eval()
    save_file(trusted.state_dict(), tmp_path / "whole.safetensors")
    ours = n.aesthetic_net(
        backbone, [3, 4, 5], weights=str(tmp_path / "whole.safetensors"), head="gap"
    ).eval()
    assert isinstance(trusted.features[last], torch.nn.MaxPool2d)
    with torch.inference_mode():
        maps = trusted.features[:last](PHOTOS)
        assert torch.allclose(ours(PHOTOS), ours.head(maps.mean((2, 3))), atol=1e-5)
    assert not any("classifier" in name for name in ours.state_dict())


def test_vgg16_with_a_gap_head_has_the_papers_maps_of_14_by_14():
    with torch.device("meta"):
        network = n.AestheticNet("vgg16", [3, 4], head="gap")
        maps = network.body.features(torch.empty(1, 3, 224, 224))
    assert maps.shape == (1, 512, 14, 14)  # X of AWCU-2018: M = 512, S = 14


def test_attributes_get_nodes_of_their_own_after_those_of_the_scores():
    plain = n.aesthetic_net("alexnet", [3, 4], weights="none", head="gap").eval()
    both = n.aesthetic_net(
        "alexnet", [3, 4], weights="none", head="gap", attributes=["a", "b", "c"]
    )
    with torch.inference_mode():
        logits = both.eval()(PHOTOS)
        assert logits.shape == (2, 5)
        assert torch.equal(logits[:, :2], plain(PHOTOS))


def test_a_stored_network_comes_back_with_its_head_levels_and_attributes(tmp_path):
    names = ["tag=Black and White", "sharp"]
    network = n.aesthetic_net(
        "alexnet", [0, 1], weights="none", head="gap", attributes=names, levels=("low", "high")
    ).eval()
    n.save_network(network, tmp_path / "net.safetensors")
    again, _ = n.load_network(tmp_path / "net.safetensors")
    assert (again.kind, again.levels, again.attributes) == ("gap", ["low", "high"], names)
    with torch.inference_mode():
        assert torch.equal(again.eval()(PHOTOS), network(PHOTOS))


def test_a_network_stored_before_there_were_other_heads_is_still_read(tmp_path):
    network = n.aesthetic_net("squeezenet1_1", [3, 4], weights="none")
    facts = {"backbone": "squeezenet1_1", "scores": "3 4", "round": "1"}
    save_file(network.state_dict(), tmp_path / "net.safetensors", facts)
    again, _ = n.load_network(tmp_path / "net.safetensors")
    assert (again.kind, again.levels, again.attributes) == ("fc", ["3", "4"], [])
    assert again.head_bias


@pytest.mark.parametrize(
    ("backbone", "head"), [("squeezenet1_1", "fc"), ("resnet18", "gap"), ("alexnet", "gap")]
)
def test_a_head_without_a_bias_is_kept_and_read(backbone, head, tmp_path):
    form = {"head": head, "attributes": ["a"], "head_bias": False}
    network = n.aesthetic_net(backbone, [3, 4], weights="none", **form).eval()
    assert not {"head.bias", "attribute_head.bias"} & network.state_dict().keys()
    n.save_network(network, tmp_path / "net.safetensors")
    again, _ = n.load_network(tmp_path / "net.safetensors")
    assert not again.head_bias and again.head.bias is None
    with torch.inference_mode():
        assert torch.equal(again.eval()(PHOTOS), network(PHOTOS))
        nothing = torch.zeros(1, network.head.in_features)
        assert not again.head(nothing).any()


def test_a_head_without_a_bias_begins_with_the_weights_of_one_with_it():
    form = {"weights": "none", "seed": 5}
    plain = n.aesthetic_net("squeezenet1_1", [3, 4], **form)
    bare = n.aesthetic_net("squeezenet1_1", [3, 4], head_bias=False, **form)
    assert torch.equal(plain.conv1.weight, bare.conv1.weight)
    assert plain.head.bias is not None and plain.head_bias


@pytest.mark.parametrize("told", ["maybe", "false", "", "False"])
def test_a_file_whose_word_on_the_bias_is_wrong_is_refused(told, tmp_path):
    network = n.aesthetic_net("squeezenet1_1", [3, 4], weights="none")
    facts = {"backbone": "squeezenet1_1", "scores": "3 4", "head_bias": told}
    save_file(network.state_dict(), tmp_path / "net.safetensors", facts)
    with pytest.raises(InputError, match="no readable network of a run"):
        n.load_network(tmp_path / "net.safetensors")


def test_a_head_that_does_not_exist_is_refused_by_name():
    with pytest.raises(InputError, match=r"There is no head 2; choose one of fc, gap\."):
        n.AestheticNet("squeezenet1_1", [3, 4], head=2)


def wrapped(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


def from_file(backbone, state, folder):
    save_file(state, folder / "weights.safetensors")
    return n.aesthetic_net(backbone, [3, 4], weights=str(folder / "weights.safetensors"))


def test_resnet_weights_without_counters_of_batches_are_read(tmp_path):
    state = models.resnet18(weights=None).state_dict()
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    other = old | {"bn1.num_batches_tracked": torch.tensor([7], dtype=torch.int32)}
    for given in (old, other, state):
        network = from_file("resnet18", given, tmp_path)
        assert torch.equal(network.body.bn1.running_var, state["bn1.running_var"])
        assert torch.equal(network.body.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])


@pytest.mark.parametrize("backbone", ["squeezenet1_1", "resnet18"])
@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.module.", "model.", "encoder.", "net.backbone.", "state.0."]
)
def test_weights_within_a_wrapper_are_those_within_it(backbone, prefix, tmp_path):
    state = models.get_model(backbone, weights=None).state_dict()
    plain = from_file(backbone, state, tmp_path).state_dict()
    beside = {"epoch": torch.tensor(3), "head.weight": torch.zeros(7, 5), "mask": torch.ones(2) > 0}
    network = from_file(backbone, wrapped(state, prefix) | beside, tmp_path)
    for name, tensor in network.state_dict().items():
        if "head." not in name and "num_batches_tracked" not in name:
            assert torch.equal(tensor, plain[name]), name


def test_weights_that_a_file_holds_twice_are_refused_by_their_prefixes(tmp_path):
    state = models.squeezenet1_1(weights=None).state_dict()
    both = wrapped(state, "model.") | wrapped(state, "ema.module.")
    with pytest.raises(InputError, match=r"the backbone under 'model\.' and 'ema\.module\.'; give"):
        from_file("squeezenet1_1", {k: v.clone() for k, v in both.items()}, tmp_path)
    beside = wrapped({k: v + 1 for k, v in state.items()}, "ema.") | state
    network = from_file("squeezenet1_1", beside, tmp_path)
    assert torch.equal(network.conv1.weight, state["features.0.weight"])


def test_weights_within_a_wrapper_that_do_not_fit_are_refused_with_their_prefix(tmp_path):
    state = wrapped(models.squeezenet1_0(weights=None).state_dict(), "module.")
    with pytest.raises(InputError, match=r"their prefix 'module\.'\) do not fit .*of its 50"):
        from_file("squeezenet1_1", state, tmp_path)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_read_and_whole_numbers_are_refused(kind, tmp_path):
    state = models.squeezenet1_1(weights=None).state_dict()
    network = from_file("squeezenet1_1", {k: v.to(kind) for k, v in state.items()}, tmp_path)
    assert network.conv1.weight.dtype == torch.float32
    assert torch.equal(network.conv1.weight, state["features.0.weight"].to(kind).float())
    with pytest.raises(InputError, match="50 have another shape or kind"):
        from_file("squeezenet1_1", {k: v.to(torch.int8) for k, v in state.items()}, tmp_path)

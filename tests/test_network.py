from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from rsrl_lib import network as n
from rsrl_lib.photos import InputError

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


def test_starter_weights_are_refused_for_a_network_that_they_are_not_of():
    with pytest.raises(InputError, match=r"squeezenet1_1, not of alexnet"):
        n.aesthetic_net("alexnet", [3, 4], weights="starter")


def test_an_unknown_backbone_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="choose one of alexnet"):
        n.AestheticNet("lenet", [3, 4])


def test_real_imagenet_weights_fit_the_network(shared):
    weights = shared / "weights" / "squeezenet1_0-imagenet.safetensors"
    network = n.aesthetic_net("squeezenet1_0", [3, 4], weights=str(weights))
    assert network.conv1.weight.shape == (96, 3, 7, 7)

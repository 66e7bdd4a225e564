import numpy as np
import pytest
import torch

from rsrl_lib import activation as a
from rsrl_lib.files import InputError
from rsrl_lib.network import aesthetic_net
from rsrl_lib.pixels import at_size, normalised

BACKBONES = ("alexnet", "vgg16", "squeezenet1_0", "squeezenet1_1", "resnet18")
ATTRIBUTES = ("sky", "dog", "dusk", "snow")


@pytest.fixture(scope="module")
def photos():
    generator = torch.Generator().manual_seed(3)
    small = torch.rand(2, 3, 7, 7, generator=generator)
    return (torch.nn.functional.interpolate(small, (256, 256)) * 255).to(torch.uint8)


def gap(backbone, **form):
    network = aesthetic_net(backbone, [2, 3, 5], weights="none", head="gap", **form)
    with torch.no_grad():  # biases that are not 0, so that the identity has to leave them out
        for head in filter(None, (network.head, network.attribute_head)):
            head.weight.mul_(100)
            head.bias.normal_(generator=torch.Generator().manual_seed(1))
    return network.eval()


@pytest.mark.parametrize("shrink_to", [None, 64])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_mean_of_a_map_is_the_logit_without_its_bias(backbone, shrink_to, photos):
    network = gap(backbone, attributes=ATTRIBUTES)
    with torch.inference_mode():
        logits = network(normalised(photos, shrink_to=shrink_to)).numpy()
    with torch.autocast("cpu", torch.bfloat16):  # maps are float32 whatever is around them
        found = a.activation_maps(network, photos, shrink_to=shrink_to, top=4)
    bias = torch.cat([network.head.bias, network.attribute_head.bias]).detach().numpy()
    for own, expected in zip(found, logits - bias, strict=True):
        maps = [*own.levels.values(), *(own.attributes[name] for name in ATTRIBUTES)]
        assert list(own.levels) == ["2", "3", "5"]
        assert {m.dtype for m in maps} == {np.dtype("float32")}
        means = [m.mean(dtype=np.float64) for m in maps]
        assert np.allclose(means, expected, rtol=0, atol=2e-6 * np.abs(maps).max())


def test_a_map_weighs_the_maps_of_the_encoder_at_every_position(photos):
    network = gap("alexnet")
    with torch.inference_mode():
        x = network.body.features(normalised(photos))[1].numpy()  # (M, S, S)
    own = a.activation_maps(network, photos, shrink_to=None)[1].levels["5"]
    w = network.head.weight.detach().numpy()[2]
    assert own.shape == x.shape[1:] == (15, 15)
    by_hand = sum(w[m] * x[m, 4, 9].astype(float) for m in range(256))
    assert own[4, 9] == pytest.approx(by_hand, rel=1e-4)


def test_the_three_likeliest_attributes_have_maps_the_likeliest_first(photos):
    network = gap("squeezenet1_1", attributes=ATTRIBUTES)
    with torch.inference_mode():
        logits = network(normalised(photos))[:, 3:].numpy()
    for own, values in zip(a.activation_maps(network, photos, shrink_to=None), logits, strict=True):
        assert list(own.attributes) == [ATTRIBUTES[i] for i in np.argsort(-values)[:3]]


def test_attributes_are_sought_among_those_that_are_named(photos):
    network = gap("squeezenet1_1", attributes=ATTRIBUTES)
    view = {"shrink_to": None}
    every = a.activation_maps(network, photos, top=4, **view)
    some = a.activation_maps(network, photos, among=["snow", "sky"], **view)
    alone = a.activation_maps(network, photos, among=["dusk"], **view)
    for all_maps, of_two, of_one in zip(every, some, alone, strict=True):
        in_order = [name for name in all_maps.attributes if name in ("snow", "sky")]
        assert list(of_two.attributes) == in_order
        assert list(of_one.attributes) == ["dusk"]
        assert np.array_equal(of_one.attributes["dusk"], all_maps.attributes["dusk"])
    with pytest.raises(InputError, match=r"not learned the attribute 'sea'.*sky, dog, dusk, snow"):
        a.activation_maps(network, photos, among=["sky", "sea"], **view)
    with pytest.raises(InputError, match=r"attribute 'sky'; it knows none"):
        a.activation_maps(gap("squeezenet1_1"), photos, among=["sky"], **view)


@pytest.mark.parametrize("head", ["fc", "gap"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_without_a_bias_the_mean_of_a_map_is_the_logit_itself(backbone, head, photos):
    if head == "fc" and backbone in ("alexnet", "vgg16"):
        pytest.skip("several fully connected layers have no maps")
    form = {"head": head, "attributes": ATTRIBUTES, "head_bias": False}
    network = aesthetic_net(backbone, [2, 3, 5], weights="none", **form).eval()
    with torch.no_grad():
        network.head.weight.mul_(100)
    with torch.inference_mode():
        logits = network(normalised(photos)).numpy()
    found = a.activation_maps(network, photos, shrink_to=None, top=4)
    for own, expected in zip(found, logits, strict=True):
        maps = [*own.levels.values(), *(own.attributes[name] for name in ATTRIBUTES)]
        means = [m.mean(dtype=np.float64) for m in maps]
        assert np.allclose(means, expected, rtol=0, atol=2e-6 * np.abs(maps).max())
        assert np.abs(expected).max() > 100 * 2e-6 * np.abs(maps).max()


def test_the_high_map_is_that_of_the_high_level_or_of_a_rising_expected_score():
    low, high = np.ones((2, 2)), np.arange(4.0).reshape(2, 2)
    assert a.ActivationMaps({"low": low, "high": high}, {}).high is high
    maps = {"2": low, "3": high, "7": -high}
    assert np.allclose(a.ActivationMaps(maps, {}).high, -2 * low - 1 * high + 3 * -high)
    shared = {score: own + 5 for score, own in maps.items()}  # what softmax does not see
    assert np.allclose(a.ActivationMaps(shared, {}).high, a.ActivationMaps(maps, {}).high)


def test_a_map_is_brought_to_the_size_of_a_photo():
    large = at_size(np.array([[0, 1], [0, 1]], np.float32), (8, 3))
    assert large.shape == (3, 8)
    assert np.allclose(large[0], large[2]) and (np.diff(large[1]) >= 0).all()


@pytest.mark.parametrize("backbone", ["alexnet", "vgg16"])
def test_a_head_of_several_layers_has_no_map_and_the_error_names_the_gap_head(backbone):
    with torch.device("meta"):
        network = aesthetic_net(backbone, [3, 4], weights="none")
    with pytest.raises(InputError, match=rf"{backbone}; train with head 'gap', or take"):
        a.activation_maps(network, torch.zeros(1, 3, 256, 256, dtype=torch.uint8), shrink_to=None)


def test_maps_that_are_not_finite_are_refused(photos):
    network = gap("squeezenet1_1")
    with torch.no_grad():
        network.head.weight[0, 0] = np.inf
    with pytest.raises(InputError, match="not finite"):
        a.activation_maps(network, photos, shrink_to=None)


def scaled(values, side=256):
    """A map at the view's size, then scaled to 0..1: scaled last, as resizing lowers peaks."""
    large = at_size(values, (side, side))
    return (large - large.min()) / max(np.ptp(large), 1e-7)


@pytest.mark.parametrize(("shrink_to", "side"), [(None, 256), (96, 108)])
@pytest.mark.parametrize("backbone", ["alexnet", "squeezenet1_1", "resnet18"])
def test_grad_cam_of_a_gap_head_is_the_positive_part_of_the_activation_map(
    backbone, shrink_to, side, photos
):
    network = gap(backbone, attributes=ATTRIBUTES)
    view = {"shrink_to": shrink_to}
    own = a.activation_maps(network, photos[:1], **view)[0].levels
    found = {level: a.grad_cam(network, photos[:1], level, **view)[0] for level in own}
    for level, cam in found.items():
        assert np.allclose(cam, scaled(np.maximum(own[level], 0), side), atol=0.02)
    assert max(cam.max() for cam in found.values()) > 0.9


def test_grad_cam_weighs_the_last_maps_of_alexnet_by_their_mean_gradient(photos):
    network = aesthetic_net("alexnet", [3, 4], weights="none").eval()
    with torch.no_grad():  # of two opposite nodes one has a positive map
        network.head.weight[0].mul_(1e4)
        network.head.weight[1] = -network.head.weight[0]
    maps = network.body.features[:-1](normalised(photos[:1])).detach().requires_grad_()
    body = network.body
    features = body.classifier(body.avgpool(body.features[-1](maps)).flatten(1))
    network.head(features)[0, 0].backward()
    weights = maps.grad.mean((2, 3), keepdim=True)
    weighed = (weights * maps.detach()).sum(1)[0]
    for level, sign in (("3", 1), ("4", -1)):
        found = a.grad_cam(network, photos[:1], level, shrink_to=None)[0]
        assert np.allclose(found, scaled((sign * weighed).relu().numpy()), atol=0.02)
    assert weighed.abs().max() > 1e-3


@pytest.mark.parametrize("head", ["fc", "gap"])
@pytest.mark.parametrize("backbone", ["alexnet", "squeezenet1_1", "resnet18", "vgg16"])
def test_grad_cam_is_that_of_its_library(backbone, head, photos):
    library = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = aesthetic_net(backbone, [3, 4, 7], weights="none", head=head).eval()
    with torch.no_grad():  # a new head is nearly zero
        network.head.weight.mul_(1e3)
    layer = network.body.layer4 if backbone == "resnet18" else network.body.features
    last = layer[-2] if isinstance(layer[-1], torch.nn.MaxPool2d) else layer[-1]
    largest = []
    for node, level in enumerate(network.levels):
        found = a.grad_cam(network, photos[:2], level, shrink_to=None)
        with library.GradCAM(network, [last]) as cam:
            theirs = cam(normalised(photos[:2]), [ClassifierOutputTarget(node)] * 2)
        np.testing.assert_allclose(found, theirs, atol=0.02)
        largest.append(found.max())
    assert max(largest) > 0.9


def test_grad_cam_of_high_is_that_of_a_rising_score_and_leaves_the_network_as_it_was(photos):
    network = gap("squeezenet1_1")
    before = {name: values.clone() for name, values in network.state_dict().items()}
    maps = a.activation_maps(network, photos, shrink_to=None)
    found = a.grad_cam_maps(network, photos, "high", shrink_to=None)
    for own, cam in zip(maps, found, strict=True):
        high = np.maximum(own.high, 0)
        # Its weights are means over the positions, AesAM's are sums.
        np.testing.assert_allclose(cam * cam.size, high, rtol=1e-3, atol=1e-3 * high.max())
    assert found.max() > 0
    assert all((before[name] == values).all() for name, values in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert not any(layer._forward_hooks for layer in network.modules())

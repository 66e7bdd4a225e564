"""Activation maps: where in a photo a network sees a level or an attribute (AWCU-2018 eq. 5-8).

A head after global average pooling can go before it: A_c(x, y) = sum_m w_m^c X(m, x, y). The mean
of this map is the logit of c without its bias (eq. 12): it shows all of the decision and no more.
The document's head has no bias, ours where it is asked for (`Recipe.head_bias`).
Maps are float32 and of the whole photo, shrunk by the factor that the network's training shrank
its crops by; the decision from crops can differ from theirs.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from torch import nn

from rsrl_lib.backbones import Body, check_side
from rsrl_lib.files import InputError
from rsrl_lib.machine import device
from rsrl_lib.network import AestheticNet
from rsrl_lib.pixels import at_size, normalised
from rsrl_lib.recipe import Torchvision


@dataclass(frozen=True)
class ActivationMaps:
    """AesAM of every level and AttAM of the likeliest attributes, likeliest first, of one photo:
    maps (S, S) on the encoder's grid, by name."""

    levels: dict[str, np.ndarray]
    attributes: dict[str, np.ndarray]

    @property
    def high(self) -> np.ndarray:
        """AesAM of the high level (S, S); of scores the sum of (score - mean of all scores) x map.

        So the expected score rises. The highest score's map would not do: it is the rarest, and
        softmax leaves open what all maps share.
        """
        if "high" in self.levels:
            return self.levels["high"]
        maps = np.stack(list(self.levels.values()))  # (scores, S, S)
        return np.tensordot(high_weights(list(self.levels)), maps, 1)


def pooling(network: AestheticNet) -> nn.Module:
    """The global average pooling, whose input the maps weigh; `InputError` where there is none, or
    one for each of several backbones."""
    if len(network.parts) > 1:
        raise InputError(
            f"One global average pooling is needed, {network.backbone} have one each; take "
            "activation_maps, or a network of one backbone."
        )
    return _pooling_of(network.parts[0])


def _pooling_of(body: Body) -> nn.Module:
    """The last layer of a body that pools globally by the mean."""
    poolings = []
    for layer in body.module.modules():
        is_of_timm = type(layer).__name__ == "SelectAdaptivePool2d"
        if is_of_timm or isinstance(layer, nn.AdaptiveAvgPool2d):
            poolings.append(layer)
    if not poolings or getattr(poolings[-1], "output_size", 1) not in (1, (1, 1)):
        raise InputError(_no_maps(body))
    return poolings[-1]


def _no_maps(body: Body) -> str:
    if body.name in ("alexnet", "vgg16"):
        return (
            "Activation maps need a head of global average pooling, do not exist for the several "
            f"fully connected layers of this {body.name}; train with head 'gap', or take Grad-CAM "
            "(grad_cam, rsrl maps --kind gradcam)."
        )
    return (
        "Activation maps need a head of global average pooling, and what the head of this "
        f"{body.name} sees is no mean of maps; take a network that ends in that pooling."
    )


def check_maps(network: AestheticNet, *, shrink_to: int | None) -> None:
    """`InputError` where a network has no activation maps; it looks at noise to find out."""
    draw = torch.Generator().manual_seed(0)
    shape = (1, 3, network.side, network.side)
    noise = torch.randint(256, shape, dtype=torch.uint8, generator=draw)
    activation_maps(network, noise, shrink_to=shrink_to)


def activation_maps(
    network: AestheticNet,
    photos: torch.Tensor,
    *,
    shrink_to: int | None,
    top: int = 3,
    among: Sequence[str] = (),
    backbone: str | None = None,
) -> list[ActivationMaps]:
    """AesAM of every level and AttAM of the `top` likeliest attributes of each photo, in one pass.

    `photos` are bytes (batch, 3, side, side), `shrink_to` is that of the training (`Run.view` has
    it; see `pixels.normalised`). Where attributes are named, the likeliest are sought `among` these
    alone (AWCU-2018 takes 49 of 66). Each of several backbones has maps by its part of the head;
    they are brought to the finest grid of all and added, or those of one `backbone` are given, on
    its own grid. Raises `InputError` where a network has no global average pooling before its head,
    not one of the attributes or not the backbone, its maps are not finite, or the photos are of
    another side than the network's (AWCU-2018 eq. 5-8).
    """
    check_side(photos.shape[-1], network.side, network.backbone)
    check_attributes(network, among)
    check_backbone(network, backbone)
    layers = [_pooling_of(part) for part in network.parts]
    network.to(device()).eval()
    with torch.inference_mode(), torch.autocast(device().type, enabled=False):
        views = normalised(photos.to(device()), shrink_to=shrink_to)
        of_parts, logits = _maps_of_parts(network, layers, views)
        asked = []
        for part, of_part in zip(network.parts, of_parts, strict=True):
            if backbone in (None, part.name):
                asked.append(of_part)
        maps = on_one_grid(asked).cpu().numpy()
    if not np.isfinite(maps).all():
        raise InputError(
            "An activation map is not finite; the network is broken, train it anew."
        )
    named = []
    for maps_of_photo, logits_of_photo in zip(maps, logits.cpu(), strict=True):
        named.append(_named_maps(network, maps_of_photo, logits_of_photo, top, among))
    return named


def check_attributes(network: AestheticNet, names: Sequence[str]) -> None:
    """`InputError` where a network has not learned one of the attributes."""
    for name in names:
        if name not in network.attributes:
            known = ", ".join(network.attributes) or "none"
            raise InputError(
                f"The network has not learned the attribute {name!r}; it knows {known}."
            )


def check_backbone(network: AestheticNet, name: str | None) -> None:
    """`InputError` where a network is given the name of a backbone that it does not have."""
    names = [part.name for part in network.parts]
    if name is not None and name not in names:
        raise InputError(
            f"The network has no backbone {name!r}; it has {', '.join(names)}: name one, or leave "
            "it out."
        )


def _maps_of_parts(
    network: AestheticNet, layers: list[nn.Module], views: torch.Tensor
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Maps (photos, nodes, S, S) of each backbone, by its pooling among `layers`, on its own grid,
    and all logits."""
    weights = [network.head.weight]
    if network.attribute_head is not None:
        weights.append(network.attribute_head.weight)
    w = torch.cat(weights)  # (nodes, M)
    inputs = {}

    def keep_input(layer: nn.Module, given: tuple) -> None:
        inputs[layer] = given[0]

    with ExitStack() as hooks:
        for layer in (*layers, network.head):
            hooks.enter_context(layer.register_forward_pre_hook(keep_input))
        logits = network(views)
    features = inputs[network.head]  # (photos, M)
    maps = []
    first = 0
    for part, layer in zip(network.parts, layers, strict=True):
        own = slice(first, first + part.width)
        first = own.stop
        if layer not in inputs:
            raise InputError(_no_maps(part))
        X = _averaged(inputs[layer], features[:, own], part)  # (photos, M, S, S)
        maps.append(torch.einsum("cm,nmxy->ncxy", w[:, own], X))
    return maps, logits


def _averaged(pooled: torch.Tensor, features: torch.Tensor, body: Body) -> torch.Tensor:
    """What was pooled, as (photos, M, S, S), where its mean is what the head sees: some networks
    have more layers in between. `InputError` where it is not."""
    if not features.isfinite().all():
        return pooled
    tolerance = 1e-4 * features.abs().max().item()
    for X in (pooled, pooled.movedim(-1, 1)):  # some keep the channels last
        mean = X.mean((2, 3))
        is_mean = mean.shape == features.shape
        if is_mean and torch.allclose(mean, features, rtol=1e-3, atol=tolerance):
            return X
    raise InputError(_no_maps(body))


def on_one_grid(maps: list[torch.Tensor]) -> torch.Tensor:
    """The sum of maps (..., S, S) on grids of their own, on the finest of these.

    A cell has the mean of the cells that it covers, by area, so that the mean of a map stays.
    """
    height = max(each.shape[-2] for each in maps)
    width = max(each.shape[-1] for each in maps)
    total = 0
    for each in maps:
        if each.shape[-2:] != (height, width):
            down = _covered(height, each.shape[-2]).to(each)
            across = _covered(width, each.shape[-1]).to(each)
            each = down @ each @ across.T
        total = total + each
    return total


def _covered(count: int, of: int) -> torch.Tensor:
    """Shares (count, of) of each of `count` equal cells that lie in each of `of` equal ones."""
    cells = torch.arange(count, dtype=torch.float64)[:, None] / count
    others = torch.arange(of, dtype=torch.float64) / of
    starts = torch.maximum(cells, others)
    ends = torch.minimum(cells + 1 / count, others + 1 / of)
    return (ends - starts).clamp(min=0) * count


def _named_maps(
    network: AestheticNet,
    maps: np.ndarray,
    logits: torch.Tensor,
    top: int,
    among: Sequence[str],
) -> ActivationMaps:
    """Maps (nodes, S, S) of a photo by name: all levels, and the `top` likeliest attributes."""
    level_count = len(network.levels)
    level_maps = maps[:level_count]
    levels = dict(zip(network.levels, level_maps, strict=True))

    attribute_maps = maps[level_count:]
    attribute_logits = logits[level_count:]
    likeliest_first = attribute_logits.argsort(descending=True)
    attributes = {}
    for i in likeliest_first.tolist():
        name = network.attributes[i]
        is_asked_for = not among or name in among
        if is_asked_for and len(attributes) < top:
            attributes[name] = attribute_maps[i]
    return ActivationMaps(levels, attributes)


def grad_cam(
    network: AestheticNet, photos: torch.Tensor, level: str, *, shrink_to: int | None
) -> np.ndarray:
    """Grad-CAM of a level, (batch, side, side) scaled to 0..1: a map for heads of several layers.

    Before a GAP head it is the positive part of AesAM. `photos` are bytes (batch, 3, 256, 256),
    `level` is one of `network.levels` or "high" (see `ActivationMaps.high`), `shrink_to` is that of
    the training; the side is 256, or what that leaves of it. Raises `InputError` for other networks
    than torchvision's.
    """
    side = normalised(photos[:1], shrink_to=shrink_to).shape[-1]
    scaled = []
    for values in grad_cam_maps(network, photos, level, shrink_to=shrink_to):
        large = at_size(values, (side, side))
        lowest = large.min()
        scaled.append((large - lowest) / max(large.max() - lowest, 1e-7))
    return np.stack(scaled)


def grad_cam_maps(
    network: AestheticNet, photos: torch.Tensor, level: str, *, shrink_to: int | None
) -> np.ndarray:
    """Grad-CAM (batch, S, S) on the grid of the last maps, not scaled: the positive part of their
    sum, each weighed by the mean of the logit's gradient (Selvaraju et al. 2017, eq. 1 and 2).

    Arguments and errors are those of `grad_cam`.
    """
    weights = torch.tensor(_weights_of(network, level), device=device())
    layer = _last_maps(network)
    kept = []

    def keep(_layer: nn.Module, _given: tuple, maps: torch.Tensor) -> torch.Tensor:
        kept.append(maps.detach().requires_grad_())
        return kept[-1]

    network.to(device()).eval()
    views = normalised(photos.to(device()), shrink_to=shrink_to)
    hook = layer.register_forward_hook(keep)
    with (
        torch.enable_grad(),
        torch.autocast(device().type, enabled=False),
        ExitStack() as after,
    ):
        after.callback(hook.remove)
        logits = network(views)[:, : len(weights)]
        asked = (logits * weights).sum()
        (gradient,) = torch.autograd.grad(asked, kept)
    weighed = kept[0] * gradient.mean((2, 3), keepdim=True)  # (batch, M, S, S)
    maps = weighed.sum(1).relu().detach().cpu().numpy()
    if not np.isfinite(maps).all():
        raise InputError(
            "A map of Grad-CAM is not finite; the network is broken, train it anew."
        )
    return maps


def _weights_of(network: AestheticNet, level: str) -> np.ndarray:
    """Weight of each logit (levels,) in what a map is asked of: a level, or a rising score."""
    if level in network.levels:
        return np.array([name == level for name in network.levels], np.float32)
    return high_weights(network.levels)


def high_weights(levels: Sequence[str]) -> np.ndarray:
    """Weight of each score (levels,) in what "high" is of scores: how far it lies above their
    mean."""
    scores = np.array([int(name) for name in levels], np.float32)
    return scores - scores.mean()


def check_grad_cam(network: AestheticNet) -> None:
    """`InputError` where a network's last maps are not known."""
    if network.backbone not in get_args(Torchvision):
        raise InputError(
            f"Grad-CAM is here for {', '.join(get_args(Torchvision))}, not for "
            f"{network.backbone}; take activation_maps (--kind aesam)."
        )


def _last_maps(network: AestheticNet) -> nn.Module:
    """The layer that gives the last maps of one of torchvision's networks."""
    check_grad_cam(network)
    is_resnet = network.backbone == "resnet18"
    layers = network.body.layer4 if is_resnet else network.body.features
    last = layers[-1]
    return layers[-2] if isinstance(last, nn.MaxPool2d) else last

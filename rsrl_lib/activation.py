"""Activation maps: where in a photo a network sees a level or an attribute (AWCU-2018 eq. 5-8).

A head after global average pooling can go before it: A_c(x, y) = sum_m w_m^c X(m, x, y). The mean
of this map is the logit of c without its bias (eq. 12): it shows all of the decision and no more.
Maps are float32 and of the whole 256 px view, shrunk by the factor that the network's training
shrank its crops by; the decision from crops can differ from theirs.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from rsrl_lib.files import InputError, needing
from rsrl_lib.machine import device
from rsrl_lib.network import AestheticNet
from rsrl_lib.pixels import normalised


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
        names = [int(name) for name in self.levels]
        scores = np.array(names, np.float32)
        weights = scores - scores.mean()
        maps = np.stack(list(self.levels.values()))  # (scores, S, S)
        return np.tensordot(weights, maps, 1)


def pooling(network: AestheticNet) -> nn.Module:
    """The global average pooling, whose input the maps weigh; `InputError` where there is none."""
    layers = network.body.modules()
    poolings = (layer for layer in layers if isinstance(layer, nn.AdaptiveAvgPool2d))
    first = next(poolings)
    if first.output_size not in (1, (1, 1)):
        raise InputError(
            "Activation maps need a head of global average pooling, do not exist for the several "
            f"fully connected layers of this {network.backbone}; train with head 'gap', or take "
            "grad_cam."
        )
    return first


def activation_maps(
    network: AestheticNet, photos: torch.Tensor, *, shrink_to: int | None, top: int = 3
) -> list[ActivationMaps]:
    """AesAM of every level and AttAM of the `top` likeliest attributes of each photo, in one pass.

    `photos` are bytes (batch, 3, 256, 256), `shrink_to` is that of the training (`Run.view` has it;
    see `pixels.normalised`). Raises `InputError` where the network has no global average pooling or
    its maps are not finite (AWCU-2018 eq. 5-8).
    """
    pooled = []

    def keep_input(_layer: nn.Module, inputs: tuple) -> None:
        pooled.append(inputs[0])

    hook = pooling(network).register_forward_pre_hook(keep_input)
    network.to(device()).eval()
    weights = [network.head.weight]
    if network.attribute_head is not None:
        weights.append(network.attribute_head.weight)
    with hook, torch.inference_mode(), torch.autocast(device().type, enabled=False):
        views = normalised(photos.to(device()), shrink_to=shrink_to)
        logits = network(views).cpu()
        w = torch.cat(weights)  # (nodes, M)
        X = pooled[0]  # (photos, M, S, S)
        A = torch.einsum("cm,nmxy->ncxy", w, X)
        maps = A.cpu().numpy()
    if not np.isfinite(maps).all():
        raise InputError(
            "An activation map is not finite; the network is broken, train it anew."
        )
    named = []
    for maps_of_photo, logits_of_photo in zip(maps, logits, strict=True):
        named.append(_named_maps(network, maps_of_photo, logits_of_photo, top))
    return named


def _named_maps(
    network: AestheticNet, maps: np.ndarray, logits: torch.Tensor, top: int
) -> ActivationMaps:
    """Maps (nodes, S, S) of a photo by name: all levels, and the `top` likeliest attributes."""
    level_count = len(network.levels)
    level_maps = maps[:level_count]
    levels = dict(zip(network.levels, level_maps, strict=True))

    attribute_maps = maps[level_count:]
    attribute_logits = logits[level_count:]
    likeliest_first = attribute_logits.argsort(descending=True)
    attributes = {}
    for i in likeliest_first[:top].tolist():
        name = network.attributes[i]
        attributes[name] = attribute_maps[i]
    return ActivationMaps(levels, attributes)


def grad_cam(
    network: AestheticNet, photos: torch.Tensor, level: str, *, shrink_to: int | None
) -> np.ndarray:
    """Grad-CAM of a level, (batch, side, side) scaled to 0..1: a map for heads of several layers.

    Before a GAP head it is the positive part of AesAM. `photos` are bytes (batch, 3, 256, 256),
    `level` is one of `network.levels`, `shrink_to` is that of the training; the side is 256, or
    what that leaves of it. Raises `InputError` without the package `grad-cam`.
    """
    with needing("Grad-CAM", "study"):
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    network.to(device()).eval()
    is_resnet = network.backbone == "resnet18"
    layers = network.body.layer4 if is_resnet else network.body.features
    last = layers[-1]
    if isinstance(last, nn.MaxPool2d):
        last = layers[-2]
    target = ClassifierOutputTarget(network.levels.index(level))
    targets = [target] * len(photos)
    views = normalised(photos.to(device()), shrink_to=shrink_to)
    with GradCAM(network, [last]) as cam:
        return cam(views, targets)

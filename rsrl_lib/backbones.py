"""Networks without their last layer: torchvision's five, any of timm, any module of your own.

All of them are given photos as torchvision's want them. What another network wants of photos, its
own mean, spread and size, its `Preparation` makes of these, so that nothing else has to know.
Traded away: photos are decoded by a bilinear resize, whatever the network was trained on.
"""

import difflib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import ModuleType
from typing import get_args

import torch
from torch import nn
from torch.nn.functional import interpolate
from torchvision import models

from rsrl_lib.files import InputError, needing
from rsrl_lib.pixels import MEAN, SIDE, STD, side_for
from rsrl_lib.recipe import OWN, TIMM, Head, Torchvision, check_backbone, names_of


@dataclass(frozen=True)
class Preparation:
    """What a network wants of photos that come as torchvision's networks want them."""

    means: tuple[float, ...] = MEAN
    """Of what it was trained on, by colour, for values in 0..1."""
    stds: tuple[float, ...] = STD
    size: tuple[int, int] | None = None
    """Height and width, where it can look at no others."""
    mode: str = "bilinear"
    """How photos are resized: as the network's own are."""
    share: float = 1.0
    """Of the side of the photos, where they were decoded for a network that wants larger ones."""

    def __call__(self, photos: torch.Tensor) -> torch.Tensor:
        """Photos (batch, 3, h, w) as the network wants them."""
        size = tuple(photos.shape[-2:])
        wanted = self.size or tuple(round(self.share * side) for side in size)
        if wanted != size:
            photos = interpolate(photos, wanted, mode=self.mode, antialias=True)
        if (self.means, self.stds) == (MEAN, STD):
            return photos
        # From (x - MEAN) / STD to (x - mean) / std.
        mean, std, of_mean, of_std = torch.tensor(
            [self.means, self.stds, MEAN, STD], device=photos.device
        )
        scale = of_std / std
        shift = (of_mean - mean) / std
        return photos * scale.view(3, 1, 1) + shift.view(3, 1, 1)


@dataclass(frozen=True)
class Body:
    """A network without its last layer, which gives features (batch, width) of photos.

    One of your own is given photos (batch, 3, h, w), normalised as for torchvision's networks. What
    else it wants of them `prepare` has to do, as highlight maps need to know it.
    """

    module: nn.Module
    width: int
    side: int = SIDE
    """Of the decoded photos in pixels; crops have 227/256 of it."""
    prepare: Preparation | None = None
    """What it wants of photos, where that is not as torchvision's networks want them."""
    name: str = OWN

    def __call__(self, photos: torch.Tensor) -> torch.Tensor:
        """Features (batch, width) of normalised photos (batch, 3, h, w)."""
        if self.prepare is not None:
            photos = self.prepare(photos)
        features = self._seen(photos)
        shape = getattr(features, "shape", ())  # a module may return anything
        if shape != (len(photos), self.width):
            given = " x ".join(map(str, shape)) or f"a {type(features).__name__}"
            raise InputError(
                f"{self.name} is to give {len(photos)} x {self.width} features for "
                f"{len(photos)} photos, and gives {given}; give its width, and a module that ends "
                "in one row of features a photo."
            )
        return features

    def _seen(self, photos: torch.Tensor) -> torch.Tensor:
        if self.name in get_args(Torchvision):
            return self.module(photos)
        try:
            return self.module(photos)
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, RuntimeError, ValueError) as error:
            # Each network has conditions of its own, such as sides that its windows divide.
            count, _, height, width = photos.shape
            reason = str(error).strip().split("\n")[0]
            raise InputError(
                f"{self.name} cannot look at {count} photos of {height} x {width} pixels "
                f"({reason}); take another shrink_to, batch or way of tuning, or another network."
            ) from error


def bodies_of(backbone: str | Sequence[str], head: Head) -> list[Body]:
    """The bodies of one backbone or of several, for photos of the side that all of them need.

    Raises `InputError` where there is no such backbone.
    """
    names = names_of(backbone)
    check_backbone(*names)
    side = side_of(names)
    bodies = []
    for name in names:
        body = _of_timm(name) if name.startswith(TIMM) else _of_torchvision(name, head)
        if body.side < side:
            prepare = body.prepare or Preparation()
            prepare = replace(prepare, share=body.side / side)
            body = replace(body, side=side, prepare=prepare)
        bodies.append(body)
    return bodies


def side_of(backbone: str | Sequence[str]) -> int:
    """Side in pixels of the decoded photos that a backbone, or several, need; nothing is built.

    >>> side_of("alexnet")
    256
    """
    sides = [SIDE]
    for name in names_of(backbone):
        if name == OWN:
            raise InputError(
                f"The backbone {OWN!r} is a module that only Python can give; give it as "
                "body=Body(module, width), or take a backbone by its name."
            )
        if name.startswith(TIMM):
            sides.append(side_for(max(_config(name).input_size[1:])))
    return max(sides)


def check_side(found: int, needed: int, backbone: str | Sequence[str]) -> None:
    """`InputError` where photos were decoded at another side than a network needs."""
    if found != needed:
        names = " and ".join(names_of(backbone))
        raise InputError(
            f"{names} needs photos decoded at {needed} px, these are of {found} px; "
            f"decode them by decode(..., side={needed})."
        )


def _of_torchvision(backbone: str, head: Head) -> Body:
    """One of torchvision's five: fully connected layers stay, but for the last one, unless the
    head is `gap`."""
    module = models.get_model(backbone, weights=None)
    if backbone == "resnet18":
        width = module.fc.in_features
        module.fc = nn.Identity()
    elif backbone in ("squeezenet1_0", "squeezenet1_1"):
        dropout, last_conv, *_ = module.classifier
        width = last_conv.in_channels
        module.classifier = nn.Sequential(dropout, nn.AdaptiveAvgPool2d(1))
    elif head == "gap":  # AlexNet and VGG-16, without their last pooling
        last_conv = module.features[-3]
        width = last_conv.out_channels
        module.features = module.features[:-1]
        module.avgpool = nn.AdaptiveAvgPool2d(1)
        module.classifier = nn.Identity()
    else:  # AlexNet and VGG-16
        width = module.classifier[6].in_features
        module.classifier[6] = nn.Identity()
    return Body(module, width, name=backbone)


def _of_timm(backbone: str) -> Body:
    """A network of timm, which looks at photos as its own configuration says."""
    module = _created(backbone, pretrained=False)
    # Some have layers between the pooling and the classifier, which stay.
    width = getattr(module, "head_hidden_size", None) or module.num_features
    config = _config(backbone)
    size = tuple(config.input_size[1:]) if config.fixed_input_size else None
    mode = "bilinear" if config.interpolation == "bilinear" else "bicubic"
    noted = config.to_dict()
    prepare = Preparation(tuple(noted["mean"]), tuple(noted["std"]), size, mode)
    side = side_for(max(config.input_size[1:]))
    return Body(module, width, side, prepare, backbone)


def _timm() -> ModuleType:
    with needing("A network of timm", "timm"):
        import timm
    return timm


def _config(backbone: str):
    """What timm notes of a network; `InputError` where it has none of that name."""
    timm = _timm()
    name = backbone.removeprefix(TIMM)
    config = None
    if timm.is_model(name):
        with suppress(RuntimeError):  # of weights that it has not
            config = timm.get_pretrained_cfg(name)
    if config is None:
        known = timm.list_models() + timm.list_pretrained()
        nearest = difflib.get_close_matches(name, known, 3, cutoff=0)
        named = ", ".join(f"{TIMM}{other}" for other in nearest)
        raise InputError(
            f"timm {timm.__version__} has no network {name!r}; the nearest are {named}."
        )
    return config


def _created(backbone: str, *, pretrained: bool) -> nn.Module:
    name = backbone.removeprefix(TIMM)
    return _timm().create_model(name, pretrained=pretrained, num_classes=0)


def downloaded(backbone: str) -> dict[str, torch.Tensor]:
    """ImageNet's weights of one of torchvision's networks, those that timm has of one of its own.

    Raises `InputError` where they cannot be had.
    """
    try:
        if backbone.startswith(TIMM):
            return _created(backbone, pretrained=True).state_dict()
        weights = models.get_model_weights(backbone).DEFAULT
        return weights.get_state_dict(check_hash=True, weights_only=True)
    except Exception as error:
        # What a server, a disk or a damaged file can do is not one kind.
        raise InputError(
            f"The ImageNet weights of {backbone} could not be downloaded ({error}); go online, or "
            "give weights 'starter' (shipped, squeezenet1_1), a safetensors file, or 'none'."
        ) from error

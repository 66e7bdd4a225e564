"""`AestheticNet`: a torchvision backbone whose last layer alone is replaced, as in the papers.

The backbone keeps every layer but its last; the head is one linear layer with a node a score.
SqueezeNet's last convolution works on single positions and is followed by averaging, so with its
ReLU removed (a likelihood must be able to fall below 0.5) averaging first and a linear layer after
it compute the same function; that is how it is built here.
With the head `gap` (AWCU-2018) AlexNet and VGG-16 end so too: without fully connected layers, and
without their last pooling (the paper: VGG-16's S = 14; AlexNet's maps are finer for it as well).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models

from rsrl_lib.files import ROOT, InputError, reading, replacing, size_of
from rsrl_lib.recipe import Backbone, Head

SAFETENSORS = (
    "safetensors file",
    "weights are read from safetensors alone, as a .pth or .pt file can run code (to convert one: "
    "safetensors.torch.save_file(torch.load('in.pth', weights_only=True), 'out.safetensors'))",
)
STARTER = ROOT / "data" / "starter_squeezenet1_1.safetensors"


class AestheticNet(nn.Module):
    """A backbone that ends in one linear node per score; `scores` names the nodes in order.

    `levels` are other names of theirs. A second linear layer has a node for each of `attributes`
    (AWCU-2018: AesAttCNN).
    """

    def __init__(
        self,
        backbone: Backbone,
        scores: Sequence[int],
        *,
        head: Head = "fc",
        attributes: Sequence[str] = (),
        levels: Sequence[str] = (),
    ):
        _check_named("backbone", backbone, get_args(Backbone))
        _check_named("head", head, get_args(Head))
        super().__init__()
        self.backbone = backbone
        self.kind = head
        self.scores = [int(score) for score in scores]
        self.levels = list(levels) or [str(score) for score in self.scores]
        self.attributes = list(attributes)

        self.body, width = _body(backbone, head)
        self.head = nn.Linear(width, len(self.scores))
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        self.attribute_head = None
        if attributes:
            self.attribute_head = nn.Linear(width, len(attributes))

    @property
    def conv1(self) -> nn.Conv2d:
        """The first convolution, whose maps the highlight regions are made of."""
        layers = self.body.modules()
        return next(layer for layer in layers if isinstance(layer, nn.Conv2d))

    def nodes(self, labels: Sequence[int]) -> torch.Tensor:
        """Node of each score (n,), as the loss wants them; users see scores alone."""
        nodes = [self.scores.index(score) for score in labels]
        return torch.tensor(nodes)

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Logits (batch, scores + attributes) of normalised photos (batch, 3, side, side).

        The head runs in float32 whatever the precision around it: likelihood thresholds such as
        0.99 sit where bfloat16 logits are coarse.
        """
        features = self.body(photos)  # (batch, width)
        with torch.autocast(photos.device.type, enabled=False):
            logits = [self.head(features.float())]
            if self.attribute_head is not None:
                logits.append(self.attribute_head(features.float()))
            return torch.cat(logits, 1)


def _check_named(what: str, given: str, names: Sequence[str]) -> None:
    if given not in names:
        raise InputError(
            f"There is no {what} {given!r}; choose one of {', '.join(names)}."
        )


def _body(backbone: Backbone, head: Head) -> tuple[nn.Module, int]:
    """A backbone without its last layer, and the width of its features."""
    body = models.get_model(backbone, weights=None)
    if backbone == "resnet18":
        width = body.fc.in_features
        body.fc = nn.Identity()
    elif backbone in ("squeezenet1_0", "squeezenet1_1"):
        dropout, last_conv, *_ = body.classifier
        width = last_conv.in_channels
        body.classifier = nn.Sequential(dropout, nn.AdaptiveAvgPool2d(1))
    elif head == "gap":  # AlexNet and VGG-16, without their last pooling
        last_conv = body.features[-3]
        width = last_conv.out_channels
        body.features = body.features[:-1]
        body.avgpool = nn.AdaptiveAvgPool2d(1)
        body.classifier = nn.Identity()
    else:  # AlexNet and VGG-16
        width = body.classifier[6].in_features
        body.classifier[6] = nn.Identity()
    return body, width


def aesthetic_net(
    backbone: Backbone,
    scores: Sequence[int],
    *,
    weights: str = "imagenet",
    seed: int = 0,
    **form,
) -> AestheticNet:
    """The network before its first fine-tuning: transferred layers and a new head.

    `weights` is `"imagenet"` (torchvision's download), `"starter"` (shipped, SqueezeNet 1.1),
    `"none"` (random) or a safetensors file: a torchvision state dict of the backbone, alone or
    within a wrapper (`module.`, `model.`, ...), or a network of a run. `seed` draws what is not
    transferred; `form` is head, attributes and levels of `AestheticNet`. Raises `InputError` where
    the weights cannot be had or do not fit; nothing else is taken instead.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = AestheticNet(backbone, scores, **form)
    if weights == "none":
        return network

    state = _weights(weights, backbone)
    everything = network.body.state_dict()
    wanted = {}
    for name, tensor in everything.items():
        # Counters of batches steer nothing here, and older files, torchvision's too, lack them.
        if not name.endswith("num_batches_tracked"):
            wanted[name] = tensor

    what = f"The weights {weights}"
    prefix = _prefix(what, state, wanted)
    if prefix:
        what += f" (names without their prefix {prefix!r})"
    transferred = {}
    for name in wanted:
        tensor = state.get(prefix + name)
        if tensor is not None:
            transferred[name] = tensor.float() if tensor.is_floating_point() else tensor
    _check_fits(what, backbone, transferred, wanted)
    network.body.load_state_dict(everything | transferred)
    return network


def _weights(weights: str, backbone: Backbone) -> dict[str, torch.Tensor]:
    """The tensors of the weights to start from, by their names in the file."""
    if weights == "imagenet":
        return _download(backbone)
    if weights != "starter":
        state, _ = _read(Path(weights))
        return state
    starter_backbone = STARTER.stem.removeprefix("starter_")
    if backbone != starter_backbone:
        raise InputError(
            f"The starter weights are those of {starter_backbone}, not "
            f"of {backbone}; choose that backbone, or weights 'imagenet', 'none' or a file."
        )
    if size_of(STARTER) < 0:
        raise InputError(
            f"The starter weights, which come with rsrl-lib, are not at {STARTER}; install it "
            "again, or give weights 'imagenet', 'none' or a file."
        )
    state, _ = _read(STARTER)
    return state


def _prefix(what: str, state: dict, wanted: dict[str, torch.Tensor]) -> str:
    """What stands before the names of a backbone's tensors in a file: nothing, or a wrapper's name.

    Where none has all of the wanted tensors, the one that has most. Raises `InputError` where
    several have all, as in a file with a network and its moving average.
    """
    first = next(iter(wanted))
    prefixes = []
    for name in state:
        if name == first or name.endswith("." + first):
            prefixes.append(name.removesuffix(first))

    tensors = {}
    for prefix in sorted(prefixes, key=len):
        tensors[prefix] = sum(prefix + name in state for name in wanted)
    whole = [prefix for prefix, count in tensors.items() if count == len(wanted)]
    if len(whole) > 1 and "" not in whole:
        named = " and ".join(map(repr, whole))
        raise InputError(
            f"{what} hold the backbone under {named}; give a file with one of them."
        )
    return max(tensors, key=tensors.get, default="")


def check_weights(weights: str) -> None:
    """`InputError` where weights to start from are a file that is not there, or not safetensors."""
    if weights not in ("imagenet", "starter", "none"):
        facts_of(Path(weights))


def _check_fits(
    what: str, backbone: str, state: dict, wanted: dict[str, torch.Tensor]
) -> None:
    """`InputError` unless all tensors are there, of the shape and kind wanted, and finite."""
    missing = sorted(wanted.keys() - state.keys())
    misshapen = []
    not_finite = []
    for name, like in wanted.items():
        if name not in state:
            continue
        tensor = state[name]
        if tensor.shape != like.shape or tensor.dtype != like.dtype:
            misshapen.append(name)
        if not tensor.isfinite().all():
            not_finite.append(name)
    unfit = misshapen + not_finite
    if missing or unfit:
        first = (missing + unfit)[0]
        raise InputError(
            f"{what} do not fit {backbone}: of its {len(wanted)} tensors {len(missing)} are "
            f"missing and {len(unfit)} have another shape or kind or are not finite (first: "
            f"{first}); give the backbone they were trained with."
        )


def save_network(network: AestheticNet, path: Path, **facts: object) -> None:
    """Write all weights as safetensors, complete or not at all, with backbone, scores and facts."""
    facts = {
        "backbone": network.backbone,
        "scores": " ".join(map(str, network.scores)),
        **facts,
        "head": network.kind,
        "levels": " ".join(map(str, network.levels)),
        "attributes": json.dumps(network.attributes),  # names may hold blanks
    }
    metadata = {name: str(fact) for name, fact in facts.items()}
    state = {}
    for name, tensor in network.state_dict().items():
        state[name] = tensor.detach().cpu().contiguous()
    with replacing(path) as partial:
        save_file(state, partial, metadata)


def load_network(path: Path) -> tuple[AestheticNet, dict[str, str]]:
    """Read a network written by `save_network`, and the facts stored with it."""
    state, facts = _read(path)
    if not {"backbone", "scores"} <= facts.keys():
        raise InputError(
            f"{path} holds weights but no scores; give a network of a run."
        )
    with reading(path, "network of a run", "train the run anew"), torch.device("meta"):
        if max(map(len, facts.values())) > 10**5:
            raise ValueError("a fact of more than 100,000 characters")
        network = _empty_network(facts)
        wanted = network.state_dict()
        is_named_alike = wanted.keys() == state.keys()
        if len(network.levels) != len(network.scores) or not is_named_alike:
            raise ValueError("levels, scores and tensors do not go together")
    # Nothing is allocated before all is known to fit.
    _check_fits(f"The weights of {path}", network.backbone, state, wanted)
    network.to_empty(device="cpu").load_state_dict(state)
    return network, facts


def _empty_network(facts: dict[str, str]) -> AestheticNet:
    """A network of the form that the facts of `save_network` tell."""
    attributes = json.loads(facts.get("attributes", "[]"))
    scores = [int(score) for score in facts["scores"].split()]
    return AestheticNet(
        facts["backbone"],
        scores,
        head=facts.get("head", "fc"),
        levels=facts.get("levels", "").split(),
        attributes=attributes,
    )


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    facts = facts_of(path)
    with reading(path, *SAFETENSORS):
        return load_file(path), facts


def facts_of(path: Path) -> dict[str, str]:
    """Facts that a file of weights holds about them; `InputError` where it is no safetensors."""
    if size_of(path) < 0:
        raise InputError(
            f"There are no weights at {path}; give 'imagenet', 'starter', 'none' or a "
            "safetensors file that exists."
        )
    with reading(path, *SAFETENSORS), safe_open(path, "pt") as file:
        return file.metadata() or {}


def _download(backbone: Backbone) -> dict[str, torch.Tensor]:
    try:
        weights = models.get_model_weights(backbone).DEFAULT
        return weights.get_state_dict(check_hash=True, weights_only=True)
    except Exception as error:
        # What a server, a disk or a damaged file can do is not one kind.
        raise InputError(
            f"The ImageNet weights of {backbone} could not be downloaded ({error}); go online, or "
            "give weights 'starter' (shipped, squeezenet1_1), a safetensors file, or 'none'."
        ) from error

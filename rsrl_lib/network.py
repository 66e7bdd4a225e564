"""`AestheticNet`: a backbone whose last layer alone is replaced, as in the papers.

The backbone keeps every layer but its last; the head is one linear layer with a node a score.
SqueezeNet's last convolution works on single positions and is followed by averaging, so with its
ReLU removed (a likelihood must be able to fall below 0.5) averaging first and a linear layer after
it compute the same function; that is how it is built here.
With the head `gap` (AWCU-2018) AlexNet and VGG-16 end so too: without fully connected layers, and
without their last pooling (the paper: VGG-16's S = 14; AlexNet's maps are finer for it as well).
"""

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from rsrl_lib.backbones import Body, bodies_of, downloaded
from rsrl_lib.files import ROOT, InputError, reading, replacing, size_of
from rsrl_lib.recipe import (
    OWN,
    SIDE,
    TIMM,
    Head,
    Torchvision,
    names_of,
    weights_of_each,
)

SAFETENSORS = (
    "safetensors file",
    "weights are read from safetensors alone, as a .pth or .pt file can run code (to convert one: "
    "safetensors.torch.save_file(torch.load('in.pth', weights_only=True), 'out.safetensors'))",
)
MOST_BACKBONES = 16
"""Under one head, as a file may ask for them."""
MOST_SIDE = 4096
"""Of photos, in pixels: more is no network's, but a damaged file's."""
STARTER = ROOT / "data" / "starter_squeezenet1_1.safetensors"


class AestheticNet(nn.Module):
    """A backbone that ends in one linear node per score; `scores` names the nodes in order.

    Of several backbones, or parts, the features are joined under one head. A `Body` is a module of
    your own. `levels` are other names of the scores. A second linear layer has a node for each of
    `attributes` (AWCU-2018: AesAttCNN). Neither has a bias without `head_bias` (AWCU-2018 eq. 12).
    """

    def __init__(
        self,
        backbone: str | Sequence[str] | Body,
        scores: Sequence[int],
        *,
        head: Head = "fc",
        attributes: Sequence[str] = (),
        levels: Sequence[str] = (),
        head_bias: bool = True,
    ):
        if head not in get_args(Head):
            names = ", ".join(get_args(Head))
            raise InputError(f"There is no head {head!r}; choose one of {names}.")
        is_own = isinstance(backbone, Body)
        super().__init__()
        self.parts = [backbone] if is_own else bodies_of(backbone, head)
        self.backbone = " ".join(part.name for part in self.parts)
        self.side = self.parts[0].side
        self.kind = head
        self.scores = [int(score) for score in scores]
        self.levels = list(levels) or [str(score) for score in self.scores]
        self.attributes = list(attributes)
        self.head_bias = head_bias

        modules = [part.module for part in self.parts]
        self.body = modules[0] if len(modules) == 1 else nn.ModuleList(modules)
        width = sum(part.width for part in self.parts)
        self.head = nn.Linear(width, len(self.scores), bias=head_bias)
        _draw_head(self.head)
        self.attribute_head = None
        if attributes:
            self.attribute_head = nn.Linear(width, len(attributes), bias=head_bias)

    @property
    def conv1(self) -> nn.Conv2d | None:
        """The first convolution, whose maps the highlight regions are made of; None where there is
        none that looks at a photo itself, or several."""
        if len(self.parts) > 1:
            return None
        of_photos = []
        for layer in self.body.modules():
            if isinstance(layer, nn.Conv2d) and layer.in_channels == 3:
                of_photos.append(layer)
        return of_photos[0] if len(of_photos) == 1 else None

    def nodes(self, labels: Sequence[int]) -> torch.Tensor:
        """Node of each score (n,), as the loss wants them; users see scores alone."""
        nodes = [self.scores.index(score) for score in labels]
        return torch.tensor(nodes)

    def features(self, photos: torch.Tensor) -> torch.Tensor:
        """What the head sees (batch, width) of normalised photos (batch, 3, side, side)."""
        features = [part(photos) for part in self.parts]
        return features[0] if len(features) == 1 else torch.cat(features, 1)

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Logits (batch, scores + attributes) of normalised photos (batch, 3, side, side).

        The head runs in float32 whatever the precision around it: likelihood thresholds such as
        0.99 sit where bfloat16 logits are coarse.
        """
        features = self.features(photos)  # (batch, width)
        with torch.autocast(photos.device.type, enabled=False):
            logits = [self.head(features.float())]
            if self.attribute_head is not None:
                logits.append(self.attribute_head(features.float()))
            return torch.cat(logits, 1)


def aesthetic_net(
    backbone: str | Sequence[str] | Body,
    scores: Sequence[int],
    *,
    weights: str | Sequence[str] = "imagenet",
    seed: int = 0,
    **form,
) -> AestheticNet:
    """The network before its first fine-tuning: transferred layers and a new head.

    `weights` is `"imagenet"` (a download, by torchvision or timm), `"starter"` (shipped, SqueezeNet
    1.1), `"none"` (random), `"own"` (those of a module of your own, of which a copy is taken) or a
    safetensors file: a state dict of the backbone, alone or within a wrapper (`module.`, `model.`,
    ...), or a network of a run. Several backbones have one for all, or one for each. `seed` draws
    what is not transferred; `form` is head, attributes, levels and head_bias of `AestheticNet`.
    Raises `InputError` where the weights cannot be had or do not fit; nothing else is taken
    instead.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = AestheticNet(_copied(backbone), scores, **form)
    weights_of_parts = weights_of_each(weights, len(network.parts))
    for part, weights_of_part in zip(network.parts, weights_of_parts, strict=True):
        if weights_of_part not in ("none", OWN):
            _transfer(part, weights_of_part)
    return network


def renew_head(network: AestheticNet, seed: int) -> None:
    """Draw the head of a network anew, in place; the body stays as it has learned."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        _draw_head(network.head)
        if network.attribute_head is not None:
            network.attribute_head.reset_parameters()


def _draw_head(head: nn.Linear) -> None:
    """Small weights, so that a new head finds all scores about as likely."""
    nn.init.normal_(head.weight, std=0.01)
    if head.bias is not None:
        nn.init.zeros_(head.bias)


def _copied(backbone: str | Sequence[str] | Body) -> str | Sequence[str] | Body:
    """A body of your own as a copy, which is trained in its place; names as they are."""
    return deepcopy(backbone) if isinstance(backbone, Body) else backbone


def _transfer(body: Body, weights: str) -> None:
    """Give a body weights, in place."""
    state = _weights(weights, body.name)
    everything = body.module.state_dict()
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
    _check_fits(what, body.name, transferred, wanted)
    body.module.load_state_dict(everything | transferred)


def _weights(weights: str, backbone: str) -> dict[str, torch.Tensor]:
    """The tensors of the weights to start from, by their names in the file."""
    if weights == "imagenet":
        return downloaded(backbone)
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


def check_weights(weights: str | Sequence[str]) -> None:
    """`InputError` where weights to start from are a file that is not there, or not safetensors."""
    for each in names_of(weights):
        if each not in ("imagenet", "starter", "none", OWN):
            facts_of(Path(each))


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


@dataclass(frozen=True)
class Snapshot:
    """All weights of a network as they were at a moment, and what a file of them has to tell."""

    state: dict[str, torch.Tensor]
    facts: dict[str, str]

    def save(self, path: Path) -> None:
        """Write a file that `load_network` reads, complete or not at all."""
        with replacing(path) as partial:
            save_file(self.state, partial, self.facts)


def save_network(network: AestheticNet, path: Path, **facts: object) -> None:
    """Write all weights as safetensors, complete or not at all, with backbone, scores and facts."""
    snapshot(network, **facts).save(path)


def snapshot(
    network: AestheticNet, *, body_stays: bool = False, **facts: object
) -> Snapshot:
    """What `save_network` writes: a copy, which stays as it is when the network is trained on.

    Where the body is never trained (`body_stays`) one of torchvision's is not copied.
    """
    facts = {
        "backbone": network.backbone,
        "scores": " ".join(map(str, network.scores)),
        **facts,
        "head": network.kind,
        "head_bias": network.head_bias,
        "levels": " ".join(map(str, network.levels)),
        "attributes": json.dumps(network.attributes),  # names may hold blanks
    }
    if network.side != SIDE:
        facts["side"] = network.side
    if _is_of_timm(network):
        facts["prepared"] = _prepared(network)
    state = {}
    for name, tensor in network.state_dict().items():
        values = tensor.detach().cpu()
        is_of_body = not name.startswith(("head.", "attribute_head."))
        if body_stays and is_of_body and _is_all_state(network):
            state[name] = values.contiguous()
        else:  # layers of other modules may share theirs, and a file may not
            state[name] = values.clone(memory_format=torch.contiguous_format)
    return Snapshot(state, {name: str(fact) for name, fact in facts.items()})


def load_network(
    path: Path, *, body: Body | None = None
) -> tuple[AestheticNet, dict[str, str]]:
    """Read a network written by `save_network`, and the facts stored with it.

    A file holds the weights of a module of your own, not the module: `body` gives it.
    """
    state, facts = _read(path)
    if not {"backbone", "scores"} <= facts.keys():
        raise InputError(
            f"{path} holds weights but no scores; give a network of a run."
        )
    if (body is not None) != (facts["backbone"] == OWN):
        needed = (
            "is of a module of its own, which the file does not hold; give it by body="
        )
        if body is not None:
            needed = f"is of {facts['backbone']}, a body is given; leave it out"
        raise InputError(f"The network of {path} {needed}.")
    with reading(path, "network of a run", "train the run anew"):
        if max(map(len, facts.values())) > 10**5:
            raise ValueError("a fact of more than 100,000 characters")
        if len(facts["backbone"].split()) > MOST_BACKBONES:
            raise ValueError(f"more than {MOST_BACKBONES} backbones")
        with torch.device("meta"):
            network = _empty_network(facts, body)
        wanted = network.state_dict()
        is_named_alike = wanted.keys() == state.keys()
        if len(network.levels) != len(network.scores) or not is_named_alike:
            raise ValueError("levels, scores and tensors do not go together")
    if _is_of_timm(network) and facts.get("prepared") != _prepared(network):
        raise InputError(
            f"{path} was trained on photos as another version of timm prepares them; install that "
            "version, or train the run anew."
        )
    # Nothing is allocated before all is known to fit.
    _check_fits(f"The weights of {path}", network.backbone, state, wanted)
    if _is_all_state(network):
        network.to_empty(device="cpu")
    else:
        with torch.random.fork_rng():
            network = _empty_network(facts, body)
    network.load_state_dict(state)
    return network, facts


def side_of_network(path: Path) -> int:
    """Side in pixels of the photos that a network in a file looks at; nothing else is read."""
    with reading(path, "network of a run", "train the run anew"):
        side = int(facts_of(path).get("side", SIDE))
        if not SIDE <= side <= MOST_SIDE:
            raise ValueError(f"photos of {side} pixels")
    return side


def _is_of_timm(network: AestheticNet) -> bool:
    return any(part.name.startswith(TIMM) for part in network.parts)


def _prepared(network: AestheticNet) -> str:
    """What each backbone wants of photos: timm's note of it, which may change with its version."""
    return "; ".join(repr(part.prepare) for part in network.parts)


def _is_all_state(network: AestheticNet) -> bool:
    """Whether a network is known by its state: torchvision's are, others may hold more tensors,
    such as where each patch lies, which are made when it is."""
    return all(part.name in get_args(Torchvision) for part in network.parts)


def _empty_network(facts: dict[str, str], body: Body | None) -> AestheticNet:
    """A network of the form that the facts of `save_network` tell."""
    attributes = json.loads(facts.get("attributes", "[]"))
    scores = [int(score) for score in facts["scores"].split()]
    return AestheticNet(
        facts["backbone"].split() if body is None else _copied(body),
        scores,
        head=facts.get("head", "fc"),
        levels=facts.get("levels", "").split(),
        attributes=attributes,
        head_bias=_has_bias(facts),
    )


def _has_bias(facts: dict[str, str]) -> bool:
    """Whether the head has a bias; of files of before, which do not tell, it has one."""
    told = facts.get("head_bias", "True")
    if told not in ("True", "False"):
        raise ValueError(f"head_bias {told[:20]!r}")
    return told == "True"


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

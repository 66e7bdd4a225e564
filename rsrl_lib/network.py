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
        for what, given, known in (
            ("backbone", backbone, Backbone),
            ("head", head, Head),
        ):
            if given not in get_args(known):
                names = ", ".join(get_args(known))
                raise InputError(
                    f"There is no {what} {given!r}; choose one of {names}."
                )
        super().__init__()
        self.backbone, self.kind = backbone, head
        self.scores = [int(score) for score in scores]
        self.levels = list(levels) or [str(score) for score in self.scores]
        self.attributes = list(attributes)
        body = models.get_model(backbone, weights=None)
        if backbone in ("alexnet", "vgg16"):
            width = body.classifier[6].in_features
            body.classifier[6] = nn.Identity()
            if head == "gap":
                width = body.features[-3].out_channels
                body.features, body.avgpool = (
                    body.features[:-1],
                    nn.AdaptiveAvgPool2d(1),
                )
                body.classifier = nn.Identity()
        elif backbone == "resnet18":
            width = body.fc.in_features
            body.fc = nn.Identity()
        else:
            width = body.classifier[1].in_channels
            body.classifier = nn.Sequential(body.classifier[0], nn.AdaptiveAvgPool2d(1))
        self.body = body
        self.head = nn.Linear(width, len(self.scores))
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        self.attribute_head = nn.Linear(width, len(attributes)) if attributes else None

    @property
    def conv1(self) -> nn.Conv2d:
        """The first convolution, whose maps the highlight regions are made of."""
        return next(m for m in self.body.modules() if isinstance(m, nn.Conv2d))

    def nodes(self, labels: Sequence[int]) -> torch.Tensor:
        """Node of each score (n,), as the loss wants them; users see scores alone."""
        return torch.tensor([self.scores.index(score) for score in labels])

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Logits (batch, scores + attributes) of normalised photos (batch, 3, side, side).

        The head runs in float32 whatever the precision around it: likelihood thresholds such as
        0.99 sit where bfloat16 logits are coarse.
        """
        features = self.body(photos)  # (batch, width)
        with torch.autocast(photos.device.type, enabled=False):
            heads = filter(None, (self.head, self.attribute_head))
            return torch.cat([head(features.float()) for head in heads], 1)


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
    if weights == "imagenet":
        state = _download(backbone)
    elif weights == "starter":
        if backbone not in STARTER.stem:
            raise InputError(
                f"The starter weights are those of {STARTER.stem.removeprefix('starter_')}, not "
                f"of {backbone}; choose that backbone, or weights 'imagenet', 'none' or a file."
            )
        if size_of(STARTER) < 0:
            raise InputError(
                f"The starter weights, which come with rsrl-lib, are not at {STARTER}; install it "
                "again, or give weights 'imagenet', 'none' or a file."
            )
        state = _read(STARTER)[0]
    else:
        state = _read(Path(weights))[0]
    everything = network.body.state_dict()
    # Counters of batches steer nothing here, and older files, torchvision's too, lack them.
    wanted = {
        k: v for k, v in everything.items() if not k.endswith("num_batches_tracked")
    }
    what, prefix = (
        f"The weights {weights}",
        _prefix(f"The weights {weights}", state, wanted),
    )
    state = {k: state[prefix + k] for k in wanted if prefix + k in state}
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    named = f" (names without their prefix {prefix!r})" if prefix else ""
    _fits(what + named, backbone, state, wanted)
    network.body.load_state_dict(everything | state)
    return network


def _prefix(what: str, state: dict, wanted: dict[str, torch.Tensor]) -> str:
    """What stands before the names of a backbone's tensors in a file: nothing, or a wrapper's name.

    Where none has all of the wanted tensors, the one that has most. Raises `InputError` where
    several have all, as in a file with a network and its moving average.
    """
    first = next(iter(wanted))
    prefixes = [
        k.removesuffix(first) for k in state if k == first or k.endswith("." + first)
    ]
    count = {p: sum(p + k in state for k in wanted) for p in sorted(prefixes, key=len)}
    whole = [p for p, there in count.items() if there == len(wanted)]
    if len(whole) > 1 and "" not in whole:
        raise InputError(
            f"{what} hold the backbone under {' and '.join(map(repr, whole))}; give a file with "
            "one of them."
        )
    return max(count, key=count.get, default="")


def check_weights(weights: str) -> None:
    """`InputError` where weights to start from are a file that is not there, or not safetensors."""
    if weights not in ("imagenet", "starter", "none"):
        _facts(Path(weights))


def _fits(
    what: str, backbone: str, state: dict, wanted: dict[str, torch.Tensor]
) -> None:
    """`InputError` unless all tensors are there, of the shape and kind wanted, and finite."""
    missing = sorted(wanted.keys() - state.keys())
    there = [(k, state[k], v) for k, v in wanted.items() if k in state]
    unfit = [k for k, v, w in there if (v.shape, v.dtype) != (w.shape, w.dtype)]
    unfit += [k for k, v, _ in there if not v.isfinite().all()]
    if missing or unfit:
        raise InputError(
            f"{what} do not fit {backbone}: of its {len(wanted)} tensors {len(missing)} are "
            f"missing and {len(unfit)} have another shape or kind or are not finite (first: "
            f"{[*missing, *unfit][0]}); give the backbone they were trained with."
        )


def save_network(network: AestheticNet, path: Path, **facts: object) -> None:
    """Write all weights as safetensors, complete or not at all, with backbone, scores and facts."""
    facts = {"backbone": network.backbone, "scores": network.scores, **facts}
    facts |= {"head": network.kind, "levels": network.levels}
    facts["attributes"] = json.dumps(network.attributes)  # names may hold blanks
    metadata = {
        k: " ".join(map(str, v)) if isinstance(v, list) else str(v)
        for k, v in facts.items()
    }
    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
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
        form = {
            "head": facts.get("head", "fc"),
            "levels": facts.get("levels", "").split(),
        }
        form["attributes"] = json.loads(facts.get("attributes", "[]"))
        scores = [int(score) for score in facts["scores"].split()]
        network = AestheticNet(facts["backbone"], scores, **form)
        if (
            len(network.levels) != len(scores)
            or network.state_dict().keys() != state.keys()
        ):
            raise ValueError("levels, scores and tensors do not go together")
    # Nothing is allocated before all is known to fit.
    _fits(f"The weights of {path}", network.backbone, state, network.state_dict())
    network.to_empty(device="cpu").load_state_dict(state)
    return network, facts


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    facts = _facts(path)
    with reading(path, *SAFETENSORS):
        return load_file(path), facts


def _facts(path: Path) -> dict[str, str]:
    """Facts that a file of weights holds about them; `InputError` where it is no safetensors."""
    if size_of(path) < 0:
        known = "'imagenet', 'starter', 'none' or a safetensors file that exists"
        raise InputError(f"There are no weights at {path}; give {known}.")
    with reading(path, *SAFETENSORS), safe_open(path, "pt") as file:
        return file.metadata() or {}


def _download(backbone: Backbone) -> dict[str, torch.Tensor]:
    try:
        weights = models.get_model_weights(backbone).DEFAULT
        return weights.get_state_dict(check_hash=True, weights_only=True)
    except (
        Exception
    ) as error:  # what a server, a disk or a damaged file can do is not one kind
        raise InputError(
            f"The ImageNet weights of {backbone} could not be downloaded ({error}); go online, or "
            "give weights 'starter' (shipped, squeezenet1_1), a safetensors file, or 'none'."
        ) from error

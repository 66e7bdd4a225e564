"""What a run does: every setting with its default and its source, checked when it is given.

Command line, notebooks and grids of a sweep fill in these classes; nothing here computes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Literal, get_args

from rsrl_lib.drop_rules import DropRule
from rsrl_lib.files import InputError
from rsrl_lib.settings import check

Torchvision = Literal["alexnet", "vgg16", "squeezenet1_0", "squeezenet1_1", "resnet18"]
Backbone = Torchvision | str
"""Also 'timm:NAME', or 'own' for a module that comes from Python."""
TIMM = "timm:"
OWN = "own"
Head = Literal["fc", "gap"]
ControlName = Literal[
    "none",
    "random-drop",
    "random-drop-same",
    "undersample",
    "class-weighted",
    "class-balanced",
    "focal",
    "logit-adjusted",
    "emd",
    "confident-learning",
    "cross-fitted",
    "own",
]
Resplit = Literal["never", "fresh", "rotating"]
Choose = Literal["validation", "test", "loss", "last"]
PaperName = Literal[
    "ssrl-2019",
    "rsrl-a",
    "rsrl-b",
    "awcu-2018",
    "aescnn",
    "aescnn-w",
    "aesattcnn",
    "aesattcnn-w",
]
Decide = Literal["largest", "prior", "ordinal"]
DecideFor = Literal["accuracy", "macro_f1", "balanced_accuracy", "kappa", "macro_mae"]
SIDE = 256
"""Of a decoded photo, in pixels, where a network does not need more."""
CROP = 227
"""Side of the crops of such a photo; those of larger photos are larger by the same factor."""
FOLDS = 5
"""Parts of the photos: each in turn tests."""
MOST_BITS = 16
"""Of 64, in which hashes of photos may differ that are near-duplicates."""


@dataclass(frozen=True)
class Training:
    """How one round fine-tunes: optimiser and schedule start anew, the network goes on."""

    optimiser: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with momentum 0.9 as in the papers (then learning rates near 0.001 learn)."""
    learning_rate: float = 1e-4
    """Of the transferred layers; falls within each round, see `decay`."""
    head_learning_rate: float = 1e-3
    """Of the new fc layer."""
    decay: Literal["cosine", "tenths", "constant"] = "cosine"
    """Learning rates fall to zero along a cosine, or to a tenth after each third of the steps
    (AWCU-2018: by 0.1; when, it does not say), or stay (MATLAB's default)."""
    epochs: int = 5
    """Passes over the kept photos in one round (RSRL-b: 5)."""
    steps: int | None = None
    """Steps of one round, whatever the number of kept photos; instead of whole epochs."""
    batch: int = 32
    """Photos per step."""
    weight_decay: float = 5e-4
    """Decay of all weights."""
    crops: Literal["random", "five", "resized"] = "random"
    """Training at random places with mirroring, judging at the centre; or both at the four corners
    and the centre (AWCU-2018): one of the five a step, and the mean of their logits; or no crop,
    both on the whole photo resized to the side of a crop, without mirror (as MATLAB resizes)."""
    shrink_to: int | None = None
    """Side of the crops in pixels, where they are to be smaller than they are cut, for speed."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """bfloat16 where the processor or GPU multiplies it in hardware, else float32."""

    def __post_init__(self):
        check(self, epochs=1, steps=1, batch=1, weight_decay=0, shrink_to=32)
        for name in ("learning_rate", "head_learning_rate"):
            value = getattr(self, name)
            if value <= 0:
                raise InputError(f"{name} must be above 0, not {value}.")

    @property
    def view(self) -> dict[str, object]:
        """How `logits` and `judge` look at photos, so that they do as training did.

        A whole photo that is resized to a crop's side is one of 256 px that is shrunk: by the same
        factor as crops that are shrunk, in which maps and highlight regions see it too.
        """
        shrink_to = self.shrink_to
        if self.crops == "resized":
            shrink_to = round((shrink_to or CROP) * CROP / SIDE)
        return {
            "precision": self.precision,
            "crops": self.crops,
            "shrink_to": shrink_to,
        }


@dataclass(frozen=True)
class Recipe:
    """What a run does; the same recipe on the same photos gives the same run."""

    backbone: Backbone | tuple[str, ...] = "alexnet"
    """Transferred network; AlexNet is the papers'. Or timm:NAME, a network of timm; with tune
    'head' also several, whose features are joined under one head."""
    weights: str | tuple[str, ...] = "imagenet"
    """'imagenet' (download), 'starter' (shipped, squeezenet1_1), a safetensors file, or 'none'; of
    several backbones one for all, or one for each."""
    tune: Literal["all", "head", "head-first"] = "all"
    """Layers that a round trains: all, as in the papers; or the head alone, which here is the last
    linear layer, on features of the others that are computed once: a second a round, and always the
    best head there is; or all, beginning with that head (Kumar et al. 2022)."""
    head: Head = "fc"
    """Fully connected layers of AlexNet and VGG-16, or global average pooling alone (AWCU-2018),
    as the others have it anyway."""
    head_bias: bool = True
    """Whether the head has a bias. Without one the mean of a level's map is its logit itself
    (AWCU-2018 eq. 12), which needs tune 'all'."""
    attributes: tuple[str, ...] = ()
    """Attributes learned beside the level (AWCU-2018: AesAttCNN), by column; one of words, such as
    AVA's tag, stands for all of its values."""
    untagged: Literal["unknown", "none"] = "unknown"
    """Photos without a value of an attribute do not count in its loss; or they have none of the
    attributes, as in AWCU-2018's equation 3: each is 0."""
    levels: Literal["scores", "low-high"] = "scores"
    """Classes: the scores, or two levels (AWCU-2018), in the tables 0 (low) and 1 (high)."""
    cut: float = 5.0
    """High are photos whose mean score is above it, for levels='low-high'; 5 is AVA's."""
    ambiguous: tuple[float, float] = (4.0, 6.0)
    """Mean scores between which photos are ambiguous, for `weights_ab`; 4 6 are AVA's."""
    weights_ab: tuple[float, float] = (1.0, 1.0)
    """Weights a of ambiguous and b of other photos in the loss (AWCU-2018: AesCNN-W), scaled to
    mean 1 over the photos of a round; a = 0 drops the ambiguous ones."""
    literal_weights: bool = False
    """Do not scale the weights: a larger b then also raises the learning rate."""
    rounds: int = 6
    """Networks trained one from the other, at most (SSRL-2019: 10, RSRL-a: 12, RSRL-b: 30)."""
    stop: Literal["rounds", "loss", "patience"] = "rounds"
    """After `rounds`; when the quadratic loss on the training part falls below `loss_threshold`
    (SSRL-2019); or when total F has not risen for `patience` rounds (ours)."""
    loss_threshold: float = 0.5
    """Quadratic loss, in squared scores, for stop='loss'; the papers do not publish theirs."""
    patience: int = 3
    """Rounds without a better total F, for stop='patience'."""
    choose: Choose = "validation"
    """The round with the best total F on the validation photos, or on the test photos (RSRL's way,
    and a leak); or the one with the least quadratic loss on the training photos; or the last."""
    new_head: bool = False
    """Begin every round with a new head, where it else goes on as the last round left it."""
    resplit: Resplit = "never"
    """Divide training and validation photos anew in every round, a leak that is to be shown:
    'fresh' at random, 'rotating' so that each fifth validates in turn. Test photos stay."""
    train_share: float = 0.64
    """Share of the photos that train: up to 0.8, as a fifth tests and what is left validates; or 1,
    then none does either (SSRL-2019: 1; RSRL: 0.8)."""
    rare: Literal["merge", "train"] = "merge"
    """Scores with fewer photos than the five folds: merged into their neighbour, or nodes of their
    own, whose photos all train and are never tested (RSRL's node 9 has two photos)."""
    near_duplicates: int | None = None
    """Keep photos in one part whose perceptual hashes differ in at most so many of 64 bits: 6 finds
    copies that are saved again, resized or a little brighter, see `rsrl_lib.duplicates`."""
    decide: Decide = "largest"
    """How a score is decided: by the largest node, as in the papers; by the posterior divided by
    the prior to a fitted power, so that rare scores get a chance; or by the same joined with a
    normal posterior of the mean score, which knows the order of the scores."""
    decide_for: DecideFor = "macro_f1"
    """Measure for which the power of the prior is fitted: on cross-fitted training photos with
    tune='head', else on the validation photos."""
    average: int = 1
    """Last rounds whose networks judge together, their posteriors averaged. What is dropped is
    still decided by the last network alone."""
    fold: int = 0
    """Which fifth of the photos is the test part, 0..4."""
    seed: int = 0
    """Of the split, the new head, batches, crops and dropout."""
    control: ControlName = "none"
    """Something to compare dropping with, see `rsrl_lib.controls`. Nothing is then dropped, but by
    'random-drop', 'random-drop-same' and 'cross-fitted', which follow the rule, and
    'confident-learning'. 'own' is one that comes from Python."""
    first_steps: int | None = None
    """Steps of the first round, where they are to be others than those of later ones."""
    paper: PaperName | None = None
    """Document whose own protocol sets all that you do not give beside it: see rsrl papers. The
    last four are AWCU-2018's networks, of which awcu-2018 is aescnn-w."""
    drop: DropRule = field(default_factory=DropRule)
    training: Training = field(default_factory=Training)

    @property
    def view(self) -> dict[str, object]:
        """How the networks of a run look at photos, as `view_of` says."""
        return view_of(self.tune, self.training)

    def __post_init__(self):
        check(
            self,
            rounds=1,
            patience=1,
            first_steps=1,
            loss_threshold=0,
            average=1,
            near_duplicates=0,
        )
        self._check_backbones()
        smallest_side = max(map(_smallest_side, names_of(self.backbone)))
        check(self.training, shrink_to=smallest_side)
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed must lie in 0..{2**32 - 1}, not {self.seed}.")
        self._check_division()
        self._check_goes_together()
        low, high = self.ambiguous
        if low >= high:
            raise InputError(
                f"ambiguous must be a lower and a higher score, not {self.ambiguous}."
            )
        if min(self.weights_ab) < 0 or max(self.weights_ab) == 0:
            raise InputError(
                f"weights_ab must be 0 or more, not both 0, not {self.weights_ab}."
            )

    def _check_goes_together(self) -> None:
        """`InputError` for settings that leave each other without a meaning."""
        if self.stop == "patience" and self.choose == "last":
            raise InputError(
                "stop 'patience' waits for a better round, and with choose 'last' every round is "
                "better; leave one of them out."
            )
        if self.new_head and self.tune == "head":
            raise InputError(
                "new_head needs another tune than 'head', whose best head is the same from any "
                "beginning; leave one of them out."
            )
        if self.resplit != "never" and self.control != "none":
            raise InputError(
                f"resplit {self.resplit!r} goes with no control, found is {self.control!r}; "
                "leave one of them out."
            )
        if self.tune != "all" and self.resplit != "never":
            raise InputError(
                f"tune {self.tune!r} needs parts that stay, found is resplit {self.resplit!r}; "
                "leave one of them out."
            )
        if self.tune != "all" and not self.head_bias:
            raise InputError(
                f"A head without a bias needs tune 'all', found is {self.tune!r}: the best head is "
                "searched for with its biases; give tune 'all', or a head with a bias."
            )
        decides_anew = self.decide != "largest" or self.average > 1
        if decides_anew and self.resplit != "never":
            raise InputError(
                f"decide {self.decide!r} and average {self.average} need validation photos that no "
                f"round learned from, found is resplit {self.resplit!r}; leave one of them out."
            )
        if self.drop.judges == "cross-fitted" and self.tune != "head":
            raise InputError(
                f"judges 'cross-fitted' needs tune 'head', not {self.tune!r}; give it, or take "
                "the control 'cross-fitted'."
            )

    def _check_division(self) -> None:
        """`InputError` where photos cannot be divided so, or not divided anew in every round."""
        if not 0 <= self.fold < FOLDS:
            raise InputError(f"fold must lie in 0..{FOLDS - 1}, not {self.fold}.")
        most = 1 - 1 / FOLDS
        if not (0 < self.train_share <= most or self.train_share == 1):
            raise InputError(
                f"train_share must lie above 0 and be at most {most:g}, as a fifth of the photos "
                f"tests, or be 1, not {self.train_share:g}."
            )
        if self.near_duplicates is not None and self.near_duplicates > MOST_BITS:
            raise InputError(
                f"near_duplicates must be at most {MOST_BITS}, not {self.near_duplicates}: "
                "of photos that have nothing in common about half of the 64 bits differ."
            )
        divides = (self.train_share, self.rare)
        if self.resplit != "never" and divides != (0.64, "merge"):
            raise InputError(
                f"resplit {self.resplit!r} divides 64/16/20 and merges rare scores, found are "
                f"train_share {self.train_share:g} and rare {self.rare!r}; leave these out, "
                "or resplit."
            )
        fits_on_validation = self.tune != "head" or self.average > 1
        if self.train_share >= most and self.decide != "largest" and fits_on_validation:
            raise InputError(
                f"decide {self.decide!r} is fitted on validation photos, and train_share "
                f"{self.train_share:g} leaves none; give a smaller one, or tune 'head'."
            )

    def _check_backbones(self) -> None:
        """Take a list of one as that one; `InputError` where several do not go together."""
        for name in ("backbone", "weights"):
            given = getattr(self, name)
            if isinstance(given, list | tuple):
                one_or_all = given[0] if len(given) == 1 else tuple(given)
                object.__setattr__(self, name, one_or_all)
        names = names_of(self.backbone)
        check_backbone(*names)
        weights_of_each(self.weights, len(names))
        if len(names) > 1 and self.tune != "head":
            raise InputError(
                f"Several backbones are joined under one head, which needs tune 'head', not "
                f"{self.tune!r}; give it, or one backbone."
            )
        is_own = self.backbone == OWN
        if is_own != (self.weights == OWN):
            raise InputError(
                f"A module of your own comes with its weights: backbone {OWN!r} goes with weights "
                f"{OWN!r} and with nothing else, found are {self.backbone!r} and "
                f"{self.weights!r}; give both, or none."
            )


_KINDS = (Recipe, DropRule, Training)
KIND_OF = {each.name: kind for kind in _KINDS for each in fields(kind)}
"""Class of each setting, by its name; no two have a name in common."""
for _nested in ("drop", "training"):
    del KIND_OF[_nested]


def recipe_from(settings: Mapping[str, object]) -> Recipe:
    """A recipe from fields of Recipe, DropRule and Training by name; a list stands for a tuple.

    Raises `InputError` for a name of none, and for what their classes refuse.
    """
    by_kind = {kind: {} for kind in _KINDS}
    for name, value in settings.items():
        if name not in KIND_OF:
            nearest = get_close_matches(name, KIND_OF, 1, cutoff=0)[0]
            raise InputError(f"There is no setting {name!r}; did you mean {nearest!r}?")
        by_kind[KIND_OF[name]][name] = (
            tuple(value) if isinstance(value, list) else value
        )
    drop = DropRule(**by_kind[DropRule])
    training = Training(**by_kind[Training])
    return Recipe(drop=drop, training=training, **by_kind[Recipe])


def settings_of(recipe: Recipe) -> dict[str, object]:
    """All settings of a recipe by name, those of its drop rule and training too."""
    holder = {Recipe: recipe, DropRule: recipe.drop, Training: recipe.training}
    return {name: getattr(holder[kind], name) for name, kind in KIND_OF.items()}


def flattened(described: Mapping[str, object]) -> dict[str, object]:
    """All settings of a recipe in one row, from the one that stands in run.json."""
    flat = {}
    for name, value in described.items():
        if name in ("drop", "training"):
            flat |= value
        else:
            flat[name] = value
    return flat


def view_of(tune: str, training: Training) -> dict[str, object]:
    """How networks look at photos: where the head alone is trained, all learn from and judge the
    whole photo and its mirror, or the five crops."""
    view = training.view
    if tune == "head" and view["crops"] == "random":
        view["crops"] = "whole"
    return view


def names_of(given: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several, as several."""
    return tuple(given) if isinstance(given, list | tuple) else (given,)


def weights_of_each(weights: str | Sequence[str], count: int) -> tuple[str, ...]:
    """The weights of each of so many backbones: one for all, or one for each.

    >>> weights_of_each("none", 2)
    ('none', 'none')
    """
    given = names_of(weights)
    if len(given) not in (1, count):
        raise InputError(
            f"weights are one for all backbones or one for each, found are {len(given)} for "
            f"{count}; give as many."
        )
    return given if len(given) == count else given * count


def check_backbone(*names: str) -> None:
    """`InputError` unless there is a backbone or more, each known by name and given once.

    Whether timm has a network of that name is seen where it is built.
    """
    known = get_args(Torchvision)
    if not names:
        raise InputError(f"backbone needs a name or more, such as {known[0]!r}.")
    for name in names:
        is_of_timm = str(name).startswith(TIMM) and name != TIMM
        if not is_of_timm and name not in (*known, OWN):
            raise InputError(
                f"There is no backbone {name!r}; choose one of {', '.join(known)} or "
                f"{TIMM}NAME, such as {TIMM}efficientnet_b0."
            )
    if len(set(names)) < len(names) or (OWN in names and len(names) > 1):
        raise InputError(
            f"Backbones that are joined are each given once, and {OWN!r} alone; found are "
            f"{', '.join(names)}."
        )


def _smallest_side(backbone: str) -> int:
    """Of the crops that a backbone can learn from, in pixels."""
    if backbone == "alexnet":
        return 64
    if backbone == "resnet18" or backbone.startswith(TIMM):
        # They cannot normalise a photo alone in its batch whose last maps are one pixel.
        return 33
    return 32

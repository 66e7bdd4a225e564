"""The four documents by name: what each says of its own protocol, and what it leaves open.

A preset sets everything that its document states, the defaults of MATLAB's `trainNetwork` where the
document used that and says no more, and a value of ours where neither says anything. Settings given
beside it win, and are told as deviations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rsrl_lib.drop_rules import THRESHOLDS
from rsrl_lib.files import InputError
from rsrl_lib.recipe import PaperName, Recipe, recipe_from, settings_of

Source = Literal["document", "MATLAB", "ours"]
SOURCES = {
    "document": "said by the document",
    "MATLAB": "MATLAB's, as the document says nothing",
    "ours": "ours, as the document says nothing",
}


@dataclass(frozen=True)
class Stated:
    """One setting of a preset: its value, who says so, and what should be known of it."""

    setting: str
    value: object
    source: Source
    note: str = ""


@dataclass(frozen=True)
class Paper:
    """One document, or one of the networks that it names."""

    title: str
    stated: tuple[Stated, ...]

    @property
    def settings(self) -> dict[str, object]:
        return {each.setting: each.value for each in self.stated}


OF_DAI = (
    Stated("backbone", "alexnet", "document", "Caffe's there, torchvision's here"),
    Stated("weights", "imagenet", "document"),
    Stated("head", "fc", "document", "the last layer alone is new"),
    Stated("tune", "all", "document", "all layers learn"),
    Stated("levels", "scores", "document"),
    Stated("decide", "largest", "document", "as MATLAB's classify"),
    Stated("judges", "own", "document"),
    Stated("min_per_class", 0, "document", "its equations have no floor"),
    Stated("new_head", False, "document", "a round begins from the last network"),
    Stated("optimiser", "sgd", "MATLAB", "momentum 0.9"),
    Stated("learning_rate", 1e-4, "MATLAB", "its examples of transfer learning"),
    Stated("head_learning_rate", 2e-3, "MATLAB", "20 times as fast, in its examples"),
    Stated("decay", "constant", "MATLAB"),
    Stated("weight_decay", 1e-4, "MATLAB", "here also of biases"),
    Stated("batch", 10, "MATLAB", "its examples of transfer learning"),
    Stated("crops", "resized", "MATLAB", "the whole photo at 227 px, no mirror"),
)
OF_RSRL = (
    *OF_DAI,
    Stated("train_share", 0.8, "document", "five folds, nothing for validation"),
    Stated("rule", "own-class", "document", "equations 1 to 3"),
    Stated("rare", "train", "document", "score 9 has a node and two photos"),
    Stated("choose", "test", "document", "a leak: its test photos choose the round"),
    Stated("stop", "rounds", "ours", "all networks are trained, then one is chosen"),
)
SSRL_2019 = Paper(
    "Sample-specific repetitive learning for photo aesthetic assessment and highlight region "
    "extraction (arXiv 1909.08213)",
    (
        *OF_DAI,
        Stated("train_share", 1.0, "document", "no photo is held out"),
        Stated("rule", "top-class", "document", "equations 1 to 3; its prose differs"),
        Stated("keep_share", 0.667, "document", "about two thirds"),
        Stated("k_within", (0.85, 0.95), "document", "one K, which is moved in there"),
        Stated("rounds", 10, "document"),
        Stated("stop", "loss", "document", "quadratic; our reading is a mean square"),
        Stated("loss_threshold", 0.5, "ours", "its own is not published"),
        Stated("choose", "last", "document", "the network at which it stops"),
        Stated("epochs", 6, "MATLAB", "its examples of transfer learning"),
    ),
)
TITLE_OF_RSRL = (
    "CNN-based repetitive self-revised learning for photos' aesthetics imbalanced "
    "classification (arXiv 2003.03081)"
)
RSRL_A = Paper(
    f"{TITLE_OF_RSRL}, the version with K = 0.99",
    (
        *OF_RSRL,
        Stated("k", (0.99,), "document"),
        Stated("rounds", 12, "document"),
        Stated("epochs", 6, "MATLAB", "its examples of transfer learning"),
    ),
)
RSRL_B = Paper(
    f"{TITLE_OF_RSRL}, the version with K = 0.9, then 0.95",
    (
        *OF_RSRL,
        Stated(
            "k_rounds",
            (0.9, 0.9, 0.95),
            "document",
            "0.95 'after the 2th round', which it counts from the first set that was revised; "
            "--k-rounds 0.9 0.95 is the other reading",
        ),
        Stated("rounds", 30, "document"),
        Stated("epochs", 5, "document"),
    ),
)
OF_AWCU = (
    Stated("backbone", "alexnet", "document", "or vgg16, at half the learning rate"),
    Stated("weights", "imagenet", "document"),
    Stated("head", "gap", "document"),
    Stated("tune", "all", "document"),
    Stated("head_bias", False, "document", "equation 12 has none"),
    Stated("levels", "low-high", "document"),
    Stated("cut", 5.0, "document", "on AVA's scale"),
    Stated("ambiguous", (4.0, 6.0), "document", "equation 9, on AVA's scale"),
    Stated("literal_weights", True, "document", "equations 10 and 11"),
    Stated("untagged", "none", "document", "equation 3"),
    Stated("rounds", 1, "document", "nothing is trained again"),
    Stated("optimiser", "sgd", "document", "momentum 0.9"),
    Stated("learning_rate", 1e-3, "document"),
    Stated("head_learning_rate", 1e-3, "document"),
    Stated("decay", "tenths", "document", "by 0.1; when, it does not say"),
    Stated("weight_decay", 5e-4, "document"),
    Stated("crops", "five", "document", "227 px of 256, one of the five a step"),
    Stated("decide", "largest", "document"),
    Stated("choose", "last", "ours", "there is one round"),
    Stated("train_share", 0.8, "ours", "a split of your own: --parts, --part-column"),
    Stated("epochs", 6, "ours"),
    Stated("batch", 32, "ours"),
)


def _aes_cnn(name: str, *, weighted: bool, attributes: bool) -> Paper:
    """One of the four networks of AWCU-2018."""
    a_to_b = (1.0, 6.0) if weighted else (1.0, 1.0)
    learned = ("tag",) if attributes else ()
    of_attributes = "AVA's tags; give yours: --attributes" if attributes else ""
    own = (
        Stated("weights_ab", a_to_b, "document", "b/a = 6 is AlexNet's best there"),
        Stated("attributes", learned, "document", of_attributes),
    )
    return Paper(
        "Visual aesthetic understanding: sample-specific aesthetic classification and deep "
        f"activation map visualization (doi 10.1016/j.image.2018.05.006), {name}",
        (*OF_AWCU, *own),
    )


PAPERS: dict[str, Paper] = {
    "ssrl-2019": SSRL_2019,
    "rsrl-a": RSRL_A,
    "rsrl-b": RSRL_B,
    "awcu-2018": _aes_cnn("AesCNN-W", weighted=True, attributes=False),
    "aescnn": _aes_cnn("AesCNN", weighted=False, attributes=False),
    "aescnn-w": _aes_cnn("AesCNN-W", weighted=True, attributes=False),
    "aesattcnn": _aes_cnn("AesAttCNN", weighted=False, attributes=True),
    "aesattcnn-w": _aes_cnn("AesAttCNN-W", weighted=True, attributes=True),
}
RETRAINING = ("ssrl-2019", "rsrl-a", "rsrl-b")
"""The documents that retrain a network round by round."""
FOUR = (*RETRAINING, "awcu-2018")
"""All documents; the other names are networks of the last one."""
AWCU_NETWORKS = {
    "AesCNN": "aescnn",
    "AesCNN-W": "aescnn-w",
    "AesAttCNN": "aesattcnn",
    "AesAttCNN-W": "aesattcnn-w",
}
"""Networks of AWCU-2018, and their names here."""
RATE_OF_VGG16 = 5e-4
"""Of AWCU-2018, which names a learning rate for each backbone."""


def paper_of(name: str) -> Paper:
    """The document of a name; `InputError` where there is none."""
    if name not in PAPERS:
        known = ", ".join(PAPERS)
        raise InputError(f"There is no paper {name!r}; choose one of {known}.")
    return PAPERS[name]


def recipe_of(name: PaperName, **given: object) -> Recipe:
    """The recipe of a document, by its name; settings that are given beside it win.

    `given` are fields of `Recipe`, `DropRule` and `Training`, by name. Raises `InputError` for
    names of none, and where the settings contradict each other.
    """
    settings = preset(name, given)
    return recipe_from({**settings, **given, "paper": name})


def preset(name: PaperName, given: Mapping[str, object]) -> dict[str, object]:
    """What a document sets where some settings are given beside it."""
    settings = beside(paper_of(name).settings, given)
    is_of_vgg16 = "ambiguous" in settings and given.get("backbone") == "vgg16"
    if is_of_vgg16:
        settings["learning_rate"] = settings["head_learning_rate"] = RATE_OF_VGG16
    return settings


def beside(
    settings: Mapping[str, object], given: Mapping[str, object]
) -> dict[str, object]:
    """Settings without their thresholds where others are given: a rule has one kind of these."""
    left = dict(settings)
    if all(given.get(threshold) is None for threshold in THRESHOLDS):
        return left
    for threshold in THRESHOLDS:
        left.pop(threshold, None)
    if given.get("keep_share") is None:
        left.pop("k_within", None)
    return left


def deviations(recipe: Recipe) -> list[dict[str, object]]:
    """Where a recipe that bears a document's name differs from it: setting, document's, here."""
    if recipe.paper is None:
        return []
    here = settings_of(recipe)
    settings = preset(recipe.paper, {"backbone": recipe.backbone})
    nothing = settings_of(Recipe())
    places = {"fold", "seed", "paper"}
    different = []
    for name, value in here.items():
        of_document = settings.get(name, nothing[name])
        drops_nothing = name in THRESHOLDS and recipe.rounds == 1
        if name not in places and value != of_document and not drops_nothing:
            different.append({"setting": name, "document": of_document, "here": value})
    return different


def told(recipe: Recipe) -> list[str]:
    """What a recipe takes from its document, line by line, and where it deviates."""
    if recipe.paper is None:
        return []
    paper = paper_of(recipe.paper)
    here = settings_of(recipe)
    changed = {each["setting"]: each for each in deviations(recipe)}
    lines = [f"{recipe.paper}: {paper.title}."]
    width = max(len(each.setting) for each in paper.stated)
    for each in paper.stated:
        value = shown(here[each.setting])
        who = SOURCES[each.source]
        note = f" ({each.note})" if each.note else ""
        if each.setting in changed:
            stated = shown(changed[each.setting]["document"])
            who = f"DEVIATES from {stated}, {who}"
        lines.append(f"  {each.setting:{width}}  {value:13}  {who}{note}")
    named = {each.setting for each in paper.stated}
    for name, change in changed.items():
        if name not in named:
            usual = shown(change["document"])
            value = shown(here[name])
            lines.append(f"  {name:{width}}  {value:13}  DEVIATES from {usual}")
    return lines


def side_by_side() -> list[tuple[str, ...]]:
    """The documents beside each other: a row of names, then one a setting, '-' where unset.

    A value that is MATLAB's has a *, one of ours has two.
    """
    marks = {"document": "", "MATLAB": " *", "ours": " **"}
    by_name = {}
    for name in FOUR:
        for each in PAPERS[name].stated:
            row = by_name.setdefault(each.setting, dict.fromkeys(FOUR, "-"))
            row[name] = shown(each.value) + marks[each.source]
    rows = [(setting, *row.values()) for setting, row in by_name.items()]
    return [("setting", *FOUR), *rows]


def shown(value: object) -> str:
    """A value as it is written on the command line.

    >>> shown((0.9, 0.95)), shown(0.0001), shown(False), shown(())
    ('0.9 0.95', '0.0001', 'no', 'none')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return " ".join(map(shown, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)

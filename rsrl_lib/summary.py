"""What a run is made of and how it went, in sentences for whoever started it.

Every number comes from the run's files or the table of photos; nothing is trained or judged here.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from rsrl_lib.controls import CONTROLS
from rsrl_lib.drop_rules import largest_classes, says_nothing_of_k
from rsrl_lib.files import reading
from rsrl_lib.machine import machine, team
from rsrl_lib.papers import paper_of, shown, told
from rsrl_lib.photos import PARTS, ScoredPhotos
from rsrl_lib.recipe import FOLDS, Recipe, names_of
from rsrl_lib.repeatability import in_words
from rsrl_lib.rounds import finished
from rsrl_lib.runs import PART_OF_A_RUN, Run

SHOWN = {
    "train": ["accuracy", "macro_f1"],
    "validation": ["accuracy", "macro_f1"],
    "test": ["accuracy", "macro_f1", "balanced_accuracy", "kappa"],
}
IN_WORDS = {"train": "training", "validation": "validation", "test": "test"}
"""What the photos of a part are called."""
FEW = 1 / 3
"""Share of the training photos below which a round is said to have been left with few."""


def of_photos(photos: ScoredPhotos) -> str:
    """How many photos there are of which score."""
    return f"{len(photos)} photos. Photos with {_listed(_counts(photos))}."


def of_scores(photos: ScoredPhotos, merged: dict[int, int]) -> list[str]:
    """How many scores were rounded, and which count as another (`merged`) and why."""
    sentences = []
    if photos.rounding:
        sentences.append(photos.rounding)
    for score, label in merged.items():
        sentences.append(
            f"Score {score} has too few photos to split and counts as {label}."
        )
    if merged:
        rare = _counts(photos)[list(merged)]
        # A score can have photos enough that are too few files, some of them there twice.
        needed = FOLDS
        if (rare >= FOLDS).any():
            needed = f"{FOLDS} different files"
            if "group" in photos.table:
                needed = f"photos of {FOLDS} different groups"
        of_each = f"{needed} are needed, one for each fifth that may test"
        sentences.append(f"(Photos with {_listed(rare)}; {of_each}.)")
    return sentences


def of_start(photos: ScoredPhotos, run: Run, recipe: Recipe) -> list[str]:
    """What is going to be trained on what, before the first round is."""
    split = run.split
    info = run.info
    sentences = [*told(recipe), of_photos(photos)]
    if recipe.levels == "scores":
        sentences += of_scores(photos, run.merged_scores)
    else:
        high = int(split.label.sum())
        sentences.append(
            f"{high} of them are high, with a mean score above {recipe.cut:g}."
        )
    sentences.append(parts_in_words(split, recipe))
    sentences += of_share(recipe, run)
    sentences += info.get("notices", [])
    sentences += of_rater(run)
    rounds = _rounds_done(run)
    if finished(rounds, recipe):
        return sentences
    done = len(rounds)
    if done:
        sentences.append(
            f"{done} rounds are finished already; round {done + 1} is next."
        )
    what = _joined(names_of(recipe.backbone))
    if recipe.tune == "head":
        what = f"the head of {what}"
    sentences.append(f"Up to {recipe.rounds} rounds of {what} {_on_what(recipe)}.")
    return sentences


def of_share(recipe: Recipe, run: Run) -> list[str]:
    """Which share of the photos stays, where a recipe says nothing of K and the run fits it."""
    drops = CONTROLS[recipe.control].follows_rule and recipe.rounds > 1
    if not (says_nothing_of_k(recipe.drop) and drops):
        return []
    share = run.info["recipe"]["drop"]["keep_share"]
    return [
        f"You say nothing of K, so after each round it is fitted so that {share:.0%} of the "
        "training photos stay (--keep-share, --k)."
    ]


def of_rater(run: Run) -> list[str]:
    """How well whoever scored the photos repeats a score; nothing where that is not known."""
    with reading(run.folder / "run.json", *PART_OF_A_RUN):
        return in_words(run.info.get("rater"))  # runs of before have none


def of_end(run: Run) -> list[str]:
    """The rounds as a table, what its columns mean, and what should not be overlooked."""
    return [
        _table(run),
        *_legend(run),
        *of_attributes(run),
        *of_rater(run),
        *of_bounds(run),
        *settled(run.samples),
        *warnings(run),
    ]


def of_attributes(run: Run) -> list[str]:
    """How well the chosen network tells the attributes that it has learned; nothing without any."""
    table = run.attributes
    if table is None:
        return []
    part = IN_WORDS[table.part.iloc[0]]
    shown = table.drop(columns=["part", "round"]).dropna(axis=1, how="all")
    sentences = [
        f"Attributes, told by the network of round {table['round'].iloc[0]} on the {part} photos:",
        shown.to_string(index=False, float_format="{:.3f}".format),
    ]
    meaning = {
        "share": "share: of the photos that have it.",
        "majority_accuracy": "majority_accuracy: always giving the commoner answer.",
        "auc": "auc: how often, of two photos, the one that has it is the likelier one.",
        "spearman": "spearman: how well the ranks agree, 0 by chance.",
        "mean_absolute_error": "mean_absolute_error: of a likelihood from 0 to 1.",
    }
    told_columns = [text for name, text in meaning.items() if name in shown]
    return [*sentences, " ".join(told_columns)]


def of_paper(run: Run) -> list[str]:
    """Of which document a run is, and where it deviates from it; nothing of a run of none.

    Raises `InputError` where run.json names a document that there is not.
    """
    info = run.info
    name = info["recipe"].get("paper")  # runs of before have none
    if name is None:
        return []
    with reading(run.folder / "run.json", *PART_OF_A_RUN):
        changes = []
        for each in info.get("deviations", []):
            here = shown(each["here"])
            there = shown(each["document"])
            changes.append(f"{each['setting']} is {here}, not {there}")
    if changes:
        deviates = f"It deviates in {len(changes)}: {'; '.join(changes)}."
    else:
        deviates = "It deviates in none of the settings that rsrl papers shows."
    return [f"This run is of {name}: {paper_of(name).title}.", deviates]


def of_shown(run: Run, count: int) -> str:
    """Which `count` photos of a run are shown: those that test, or else those that train."""
    if run.shown_part == "test":
        return f"{count} test photos, never trained on."
    return (
        f"{count} training photos: this run holds out no test photos, so its networks have "
        "learned from all that you see."
    )


def of_bounds(run: Run) -> list[str]:
    """Which shares of the training photos stayed, where the fitted K has bounds."""
    recipe = run.info["recipe"]
    drop = recipe["drop"]
    rounds = run.rounds
    decided = rounds[rounds["round"] > 1]
    if not _is_bounded(drop) or decided.empty:
        return []
    train = int((run.split.part == "train").sum())
    shares = decided.kept / train
    low, high = drop["k_within"]
    return [
        f"K stayed within {low:g} and {high:g}: {shares.min():.0%} to {shares.max():.0%} of the "
        f"training photos stayed, {drop['keep_share']:.0%} were asked for."
    ]


def _is_bounded(drop: dict) -> bool:
    """Whether the K that a drop rule fits has bounds; rules of before have none."""
    return drop.get("k_within") is not None


def of_decision(run: Run) -> list[str]:
    """How the chosen round decides on a score, where it is not by its network's largest node."""
    recipe = run.info["recipe"]
    decide = recipe.get("decide", "largest")  # runs of before have none
    average = min(recipe.get("average", 1), run.chosen)
    sentences = []
    if average > 1:
        sentences.append(
            f"Networks of {average} rounds judge together, that of each round and those before: "
            "their posteriors are averaged."
        )
    if decide != "largest":
        fitted_on = (
            "the validation photos, whose measures are therefore a little too good"
        )
        if recipe["tune"] == "head" and recipe["average"] == 1:
            fitted_on = (
                "the training photos, each judged by a head that has not seen it"
            )
        measure = recipe["decide_for"].replace("_", " ")
        sentences.append(
            f"A photo gets the score of {run.decision.in_words()} (round {run.chosen}). That power "
            f"has the best {measure} on {fitted_on}."
        )
    return sentences


def settled(samples: pd.DataFrame) -> list[str]:
    """Whether the training photos that are kept come to stay the same, or come back in turn."""
    of_training = samples[samples.part == "train"]
    kept = of_training.pivot(index="photo", columns="round", values="kept")
    if kept.to_numpy().all():
        return []  # nothing was dropped
    of_rounds = [kept[i].to_numpy().tobytes() for i in kept]
    last = len(of_rounds) - 1
    same_as_last = [i for i in range(last) if of_rounds[i] == of_rounds[last]]
    if not same_as_last:
        return []
    period = last - same_as_last[-1]
    first = same_as_last[-1]
    while first > 0 and of_rounds[first - 1] == of_rounds[first - 1 + period]:
        first -= 1
    if period == 1:
        return [
            f"The photos that stay have settled: rounds {first + 1} to {last + 1} learned from "
            "the same."
        ]
    if last + 1 - first < 2 * period:
        return []  # once may be chance
    return [
        f"The photos that stay come back in turn: from round {first + 1} on, a round learned from "
        f"the same as {period} rounds before."
    ]


def warnings(run: Run) -> list[str]:
    """Sentences about rounds that the drop rule left with few photos, and what F did."""
    recipe = run.info["recipe"]
    drop = recipe["drop"]
    follows_rule = CONTROLS[recipe["control"]].follows_rule
    has_as_many_as_asked = drop["keep_share"] is not None and not _is_bounded(drop)
    if not follows_rule or has_as_many_as_asked:
        return []
    rounds = run.rounds.set_index("round")
    samples = run.samples
    floor = drop["min_per_class"]
    few = []
    for number in rounds.index[1:]:
        if _is_left_with_few(samples, number, floor):
            few.append(number)
    if not few:
        return []
    worst = int(rounds.kept[few].idxmin())
    which = f"round {few[0]}" if len(few) == 1 else f"rounds {_joined(few)}"
    of_worst = _learned_from(samples, worst, recipe["levels"])
    rescued = rounds.rescued[worst]
    by_floor = f", {rescued} of these only by --min-per-class {floor}" if floor else ""
    return [
        f"Warning: the drop rule left {which} with few photos. Round {worst} learned from "
        f"{of_worst}{by_floor}.",
        _what_f_did(rounds, worst),
    ]


def _learned_from(samples: pd.DataFrame, number: int, levels: str) -> str:
    """How many photos a round learned from, and how many of its majorities stayed."""
    train = _training_photos(samples, number)
    majorities = largest_classes(train.label.to_numpy(int))
    of_majorities = train[train.label.isin(majorities)]
    names = f"scores {_joined(sorted(majorities))}"
    if levels == "low-high":
        names = "levels low and high"
    return (
        f"{int(train.kept.sum())} of {len(train)}: of {len(of_majorities)} with the {names}, "
        f"{int(of_majorities.kept.sum())} stayed"
    )


def _what_f_did(rounds: pd.DataFrame, worst: int) -> str:
    """How photos, test photos if there are any, fared from round 1 to the worst round, and which K
    keeps more."""
    part = "train" if rounds.test_accuracy.isna().all() else "test"
    name = IN_WORDS[part]
    f = rounds[f"{part}_macro_f1"]
    accuracy = rounds[f"{part}_accuracy"]
    last = rounds.loc[worst]
    k = last[["k1", "k2", "k3"]].dropna().unique()
    different = [f"{value:g}" for value in k]
    return (
        f"From round 1 to {worst}, macro-F1 on the {name} photos went from {f[1]:.2f} to "
        f"{f[worst]:.2f}, accuracy from {accuracy[1]:.2f} to {accuracy[worst]:.2f}. A K below "
        f"{_joined(different)} (--k), or --keep-share 0.667, keeps more."
    )


def few_of_sweep(
    rounds: pd.DataFrame, drops: pd.DataFrame, arms: Iterable[str]
) -> list[str]:
    """The same for cells of a sweep, in a sentence; `rounds` and `drops` are its tables."""
    photos_of = drops.groupby("cell").size()
    is_later = rounds["round"] > 1
    later = rounds[is_later & rounds.arm.isin(list(arms))]
    if later.empty:
        return []  # no arm drops by a K
    photos = later.cell.map(photos_of)
    few = later[later.kept < FEW * photos]
    if few.empty:
        return []
    cells = later.cell.nunique()
    return [
        f"Warning: in {few.cell.nunique()} of {cells} cells that drop by a K, a round was left "
        f"with less than a third of its training photos (arms {_joined(few.arm.unique())})."
    ]


def parts_in_words(split: pd.DataFrame, recipe: Recipe) -> str:
    """How many photos train, validate and test, and what that is for."""
    train, validation, test = (int((split.part == part).sum()) for part in PARTS)
    purposes = [f"{train} photos train"]
    if validation and recipe.choose == "validation":
        purposes.append(f"{validation} (validation) choose the round")
    elif validation:
        purposes.append(f"{validation} are for validation")
    if test and recipe.choose == "test":
        purposes.append(f"{test} test and also choose the round (a leak)")
    elif test:
        purposes.append(f"{test} only test")
    if not test:
        purposes.append(
            "none tests, so nothing tells what the network is worth on others"
        )
    words = f"Parts: {', '.join(purposes)}"
    if recipe.resplit != "never":
        words += "; the first two are divided anew in every round (a leak)"
    return f"{words}."


def device_in_words(precision: str) -> str:
    """Where is computed, and how precisely."""
    here = machine(precision)
    device = here.get("device", "cpu")
    if device == "cpu":
        device = "the processor"
    return f"on {device} in {here['precision']}"


def _on_what(recipe: Recipe) -> str:
    """Where the weights come from, and on what is computed."""
    precision = recipe.training.precision
    threads = machine(precision)["threads"]
    _, processes = team()
    weights = "random weights"
    if recipe.weights != "none":
        weights = f"weights {_joined(map(repr, names_of(recipe.weights)))}"
    plural = "" if threads == 1 else "s"
    words = (
        f"from {weights}, {device_in_words(precision)} with {threads} thread{plural}"
    )
    if processes > 1:
        words += f", by {processes} processes"
    return words


def _rounds_done(run: Run) -> pd.DataFrame:
    return run.rounds if run.has_begun else pd.DataFrame()


def _table(run: Run) -> str:
    rounds = run.rounds
    chosen_by = run.info["recipe"]["choose"]
    parts = _parts_with_photos(run)
    columns = {}
    for name in ("round", "kept", "rescued"):
        columns["", name] = rounds[name]
    columns["", "chosen"] = np.where(rounds.chosen, "yes", "")
    for part, names in SHOWN.items():
        if part not in parts:
            continue
        if part == chosen_by:
            names = ["total_f", *names]
        if part == "train" and chosen_by == "loss":
            names = ["quadratic_loss", *names]
        for name in names:
            short = name.removesuffix("_accuracy")
            columns[part, short] = rounds[f"{part}_{name}"]
    table = pd.DataFrame(columns)
    return table.to_string(index=False, float_format="{:.3f}".format)


def _legend(run: Run) -> list[str]:
    recipe = run.info["recipe"]
    first_round = run.rounds.iloc[0]
    train = int((run.split.part == "train").sum())
    least = recipe["drop"]["min_per_class"]
    kept = f"kept: photos that the round learned from, of {train} for training."
    if not CONTROLS[recipe["control"]].follows_rule:
        kept += f" The control {recipe['control']} chose them, no K did."
    elif least:
        kept += f" rescued: those below K that stayed as the {least} likeliest of their score."
    seen = "earlier rounds learned from"
    if recipe["resplit"] == "never":
        seen = "no round learned from"
    test = "they chose nothing"
    if recipe["choose"] == "test":
        test = "they chose the round, a leak"
    of_parts = {
        "train": "train: all training photos, dropped ones too.",
        "validation": f"validation: photos that {seen}.",
        "test": f"test: photos that no round learned from; {test}.",
    }
    parts = _parts_with_photos(run)
    majority = []
    for part in parts:
        accuracy = first_round[f"{part}_majority_accuracy"]
        majority.append(f"{accuracy:.3f} ({part})")
    return [
        kept,
        f"chosen: the round that rsrl assess and crop use. {_why_chosen(recipe['choose'])}",
        " ".join(of_parts[part] for part in parts),
        f"accuracy: always giving the commonest score reaches {', '.join(majority)}.",
        *of_decision(run),
    ]


def _parts_with_photos(run: Run) -> list[str]:
    """The parts that have photos, in their order."""
    there = set(run.split.part)
    return [part for part in PARTS if part in there]


def _why_chosen(choose: str) -> str:
    """What makes a round the chosen one, in a sentence."""
    if choose == "last":
        return "It is the last one."
    if choose == "loss":
        return (
            "Its quadratic_loss, the mean squared difference between score and answer, is the "
            "smallest on the training photos."
        )
    return (
        f"Its total_f, F of all scores added up, is the largest on the {choose} photos."
    )


def _training_photos(samples: pd.DataFrame, number: int) -> pd.DataFrame:
    """The training photos of round `number`."""
    is_of_round = samples["round"] == number
    return samples[is_of_round & (samples.part == "train")]


def _is_left_with_few(samples: pd.DataFrame, number: int, floor: int) -> bool:
    """Whether a round has less than a third of its photos, or of no majority more than the floor,
    since the rule dropped the others."""
    train = _training_photos(samples, number)
    by_class = train.groupby(train.label.astype(int)).kept.agg(["sum", "size"])
    majorities = largest_classes(train.label.to_numpy(int))
    of_majorities = by_class.loc[majorities]
    stayed = of_majorities["sum"]
    photos = of_majorities["size"]
    is_floor = (stayed <= floor).all() and (stayed < photos).any()
    return bool(train.kept.mean() < FEW or is_floor)


def _counts(photos: ScoredPhotos) -> pd.Series:
    return photos.table.score.value_counts().sort_index()


def _listed(counts: pd.Series) -> str:
    each = [f"{score}: {photos}" for score, photos in counts.items()]
    return "score " + ", ".join(each)


def _joined(values: Iterable) -> str:
    *before, last = map(str, values)
    if not before:
        return last
    return f"{', '.join(before)} and {last}"

"""Write `docs/findings.md` anew from the kept tables: a verdict on each claim of the documents.

    .venv/bin/python studies/findings.py

The words stand in `studies/findings_words.md`, by hand and without a figure. Where they need one,
they name it in double braces, and it is put there from `data/results`. Where they say that a
difference is believable, or that it is not, they name that too, and the command ends in an error
once the tables say otherwise.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from rsrl_lib import comparisons
from rsrl_lib.comparisons import MEASURES, TEST_OVER_TRAIN, Trainings, corrected_interval
from rsrl_lib.drop_rules import largest_classes
from rsrl_lib.files import ROOT, InputError, replacing
from rsrl_lib.measures import of_rare_scores
from rsrl_lib.recipe import Recipe

RESULTS = ROOT / "data" / "results"
WORDS = Path(__file__).with_name("findings_words.md")
PAGE = ROOT / "docs" / "findings.md"
COMPARED = ("OASIS", "OASIS, single votes", "glass-box")
"""Sets of photos with enough trainings to compare arms."""
DROPPING, IMBALANCE = "dropping, chosen inside", "an answer to imbalance, chosen inside"
BASE, FIRST = "training on", "the first network"
OWN, TOP = "RSRL's rule, 67 % kept", "SSRL-2019's rule, 67 % kept"
FIXED, SCHEDULE = "RSRL's rule, K = 0.9", "RSRL's rule, RSRL-b's thresholds"
UNSEEN = f"{OWN}, judged by networks that have not seen the photo"
WEIGHTED = "ambiguous photos weighted 1:6"
THREE = ("accuracy", "macro_f1", "kappa")

# What is asked: the first method against the second, and in which measures.
CLAIMS = {
    "first": [(DROPPING, FIRST, ("accuracy", "macro_f1", "balanced_accuracy", "rare_f1"))],
    "dropping": [
        (DROPPING, BASE, ("accuracy", "macro_f1", "balanced_accuracy", "rare_f1", "kappa"))
    ],
    "right": [
        (OWN, f"at random, as many as {OWN}", THREE),
        (OWN, f"at random, always the same, as many as {OWN}", THREE),
        (FIXED, f"at random, as many as {FIXED}", THREE),
        (TOP, f"at random, as many as {TOP}", THREE),
    ],
}
QUESTIONS = {
    "longer": [(BASE, FIRST, THREE)],
    "fixed": [(FIXED, OWN, THREE)],
    "rules": [(TOP, OWN, THREE)],
    "unseen": [(UNSEEN, OWN, THREE)],
    "others": [(WEIGHTED, DROPPING, THREE), (IMBALANCE, DROPPING, THREE)],
}


def main() -> None:
    """Write the page."""
    with replacing(PAGE) as partial:
        partial.write_text(page())
    print(f"Written: {PAGE.relative_to(ROOT)}")


def page() -> str:
    """The words, with each figure and table that they name."""
    text = WORDS.read_text()
    return re.sub(r"\{\{(\w+)(?:: *([^}]*))?\}\}", _put, text)


def _put(found: re.Match) -> str:
    name, given = found[1], found[2] or ""
    words = [word.strip() for word in given.split(";")] if given else []
    if name not in PARTS:
        raise InputError(f"{WORDS.name} names {found[0]!r}; there are {', '.join(PARTS)}.")
    return PARTS[name](*words)


# What the page is made from.


@cache
def all_sets() -> dict[str, Trainings]:
    """Every kept sweep, by set of photos; scores as the networks know them."""
    return comparisons.read_trainings(RESULTS / f"{n}_arms.csv" for n in ("oasis", "glassbox"))


@cache
def counted(name: str, apart: bool = False) -> Trainings:
    """A set with the arms chosen inside; a score with hardly a test photo merged, unless apart."""
    trainings = all_sets()[name]
    if not apart:
        trainings, _ = comparisons.merged(trainings)
    families = {
        DROPPING: comparisons.drops_by_likelihood,
        IMBALANCE: comparisons.answers_imbalance,
    }
    for arm, belongs in families.items():
        trainings, _ = comparisons.with_chosen(trainings, arm, belongs)
    return trainings


@cache
def names(name: str) -> dict[str, str]:
    """Arm by method, of a set."""
    arms = {method: arm for arm, method in comparisons.arm_names(all_sets()[name].recipes).items()}
    return arms | {DROPPING: DROPPING, IMBALANCE: IMBALANCE}


@cache
def drawn(name: str, apart: bool) -> dict:
    return comparisons.resampled(counted(name, apart))


def compared(name: str, pairs: list, *, apart: bool = False) -> pd.DataFrame:
    """Differences of methods, a row per pair and measure, with `method` and `base` in words."""
    arms = names(name)
    tables = []
    for method, base, measures in pairs:
        if method in arms and base in arms:
            pair = [(arms[method], arms[base])]
            table = comparisons.differences(
                counted(name, apart), pair, drawn(name, apart), measures
            )
            tables.append(table.assign(method=method, base=base))
    return pd.concat(tables, ignore_index=True).assign(photos=name)


@cache
def to_base(name: str, apart: bool = False) -> pd.DataFrame:
    """All arms of a set against training on, corrected for as many arms in each measure."""
    pairs = [(method, BASE, tuple(MEASURES)) for method in names(name) if method != BASE]
    present = set(counted(name, apart).results.arm)
    pairs = [pair for pair in pairs if names(name)[pair[0]] in present]
    return comparisons.judged(compared(name, pairs, apart=apart))


@cache
def answers(asked: str, apart: bool = False) -> pd.DataFrame:
    """Claims of the papers, or questions of ours, each corrected for all of its kind in a set."""
    kinds = {"claims": CLAIMS, "questions": QUESTIONS}[asked]
    tables = []
    for name in COMPARED:
        for key, pairs in kinds.items():
            known = [p for p in pairs if {p[0], p[1]} <= set(names(name))]
            present = set(counted(name, apart).results.arm)
            known = [p for p in known if {names(name)[p[0]], names(name)[p[1]]} <= present]
            if known:
                tables.append(compared(name, known, apart=apart).assign(key=key))
    return comparisons.judged(pd.concat(tables, ignore_index=True), ("photos",))


# How it is said.


def signed(value: float) -> str:
    return f"{value:+.2f}"


def interval(low: float, high: float, digits: int = 2) -> str:
    return f"[{low:+.{digits}f}, {high:+.{digits}f}]"


def markdown(table: pd.DataFrame) -> str:
    """A table of words, without its index."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def difference(name: str, method: str, measure: str, expected: str) -> str:
    """One difference to training on, with its interval over trainings; checked as `expected`."""
    table = to_base(name).set_index(["method", "measure"])
    row = table.loc[(method, measure)]
    _check(f"{method}, {measure}, {name}", row.verdict, expected)
    return f"{signed(row.difference)} {interval(row.trainings_low, row.trainings_high)}"


def _check(what: str, verdict: str, expected: str) -> None:
    if verdict != expected:
        raise InputError(
            f"{WORDS.name} says that this is {expected!r}, the tables say {verdict!r}: {what}; "
            "correct the words."
        )


def mean(name: str, method: str, measure: str) -> str:
    results = counted(name).results
    return f"{results[results.arm == names(name)[method]][measure].mean():.2f}"


def visible(name: str, measure: str) -> str:
    return f"{comparisons.smallest_visible(to_base(name))[measure]:.2f}"


def claim(key: str) -> str:
    """Verdicts on a claim or question, and the differences that they rest on."""
    asked = "claims" if key in CLAIMS else "questions"
    words = {"better": "supported", "worse": "contradicted"}
    if asked == "questions":
        words = {"better": "the first is better", "worse": "the second is better"}
    table, apart = answers(asked), answers(asked, apart=True)
    rows = []
    for row, other in zip(table.itertuples(), apart.itertuples(), strict=True):
        if row.key != key:
            continue
        verdict = words.get(row.verdict, row.verdict)
        if other.verdict != row.verdict:
            verdict += f" ({words.get(other.verdict, other.verdict)} with every score apart)"
        told = [row.photos, row.method, row.base, MEASURES[row.measure], verdict]
        told += [signed(row.difference)]
        told += [interval(row.trainings_low, row.trainings_high)]
        told += [interval(row.photos_low, row.photos_high)]
        rows.append([*told, f"{row.p:.3f}", f"{row.p_holm:.3f}", row.trainings])
    columns = ["photos", "method", "against", "measure", "verdict", "difference"]
    columns += ["over trainings", "over photos", "p", "p (Holm)", "trainings"]
    return markdown(pd.DataFrame(rows, columns=columns))


# Tables about dropping.


def means(name: str) -> str:
    """What every arm of a set reaches."""
    trainings = counted(name)
    shown = [*MEASURES, "kept"]
    table = trainings.results.groupby("arm")[shown].mean()
    rows = []
    for method, arm in names(name).items():
        if arm in table.index:
            values = [f"{value:.3f}" for value in table.loc[arm, list(MEASURES)]]
            rows.append([method, *values, f"{table.kept[arm]:.0f}"])
    columns = ["method", *MEASURES.values(), "photos in the last round"]
    return markdown(pd.DataFrame(rows, columns=columns))


def changes(name: str) -> str:
    """What every arm of a set changes; believable ones bold, `*` if so in one way alone."""
    table, apart = to_base(name), to_base(name, apart=True)
    rows = {}
    for row, other in zip(table.itertuples(), apart.itertuples(), strict=True):
        said = f"{signed(row.difference)} {interval(row.trainings_low, row.trainings_high)}"
        believed, otherwise = (r.verdict in ("better", "worse") for r in (row, other))
        said = f"**{said}**" if believed else said
        rows.setdefault(row.method, []).append(said + " \\*" * (believed != otherwise))
    told = [[method, *said] for method, said in rows.items()]
    return markdown(pd.DataFrame(told, columns=["method", *MEASURES.values()]))


def majority(name: str) -> str:
    return f"{counted(name).results.majority_accuracy.mean():.3f}"


def rare_share(name: str) -> str:
    trainings = counted(name)
    rare = trainings.scores[trainings.rare]
    return f"{trainings.predictions.truth.isin(rare).mean():.3f}"


def over_rounds(measure: str) -> str:
    """A measure on all original training photos, after the first round and after the last."""
    rows = []
    for method in (BASE, TOP, OWN, FIXED):
        row = [method]
        for name in ("OASIS", "glass-box"):
            rounds = counted(name).rounds
            own = rounds[rounds.arm == names(name)[method]].groupby("round")[measure].mean()
            row += [f"{own.iloc[0]:.2f}", f"{own.iloc[-1]:.2f}"]
        rows.append(row)
    columns = ["method", "OASIS, first round", "last", "glass-box, first round", "last "]
    return markdown(pd.DataFrame(rows, columns=columns))


def spread() -> str:
    """Share of the test photos that get a rare score, beside F of rare and of common scores."""
    rows = []
    for name in ("OASIS", "glass-box"):
        trainings = counted(name)
        cells, counts = comparisons.confusions(trainings)
        rare = of_rare_scores(counts, trainings.rare)
        table = pd.DataFrame(rare, cells).assign(
            common_f1=of_rare_scores(counts, ~trainings.rare)["rare_f1"]
        )
        arm_of = trainings.results.set_index("cell").arm
        for method in (FIRST, BASE, TOP, OWN, FIXED, DROPPING):
            own = table.loc[arm_of.index[arm_of == names(name)[method]]].mean()
            values = [own.rare_assigned, own.rare_f1, own.rare_by_chance, own.common_f1]
            rows.append([name, method, *(f"{value:.2f}" for value in values)])
    columns = ["photos", "method", "rare scores assigned", "F of rare scores"]
    columns += ["the same by chance", "F of common scores"]
    return markdown(pd.DataFrame(rows, columns=columns))


def training_sets() -> str:
    """How many photos the rules leave, and how many of these have one of the common scores."""
    rows = []
    for name in ("OASIS", "glass-box"):
        trainings = counted(name)
        always = _never_dropped(trainings)
        for method in (TOP, OWN, FIXED, SCHEDULE):
            own = trainings.rounds[trainings.rounds.arm == names(name)[method]]
            kept = own.pivot(index="cell", columns="round", values="kept")
            rare = always[kept.index]
            common = [1 - (rare / kept[number]).mean() for number in (1, 2)]
            sizes = [f"{kept[number].mean():.0f}" for number in (1, 2, kept.columns[-1])]
            rows.append([name, method, *sizes, *(f"{share:.0%}" for share in common)])
    columns = ["photos", "method", "round 1", "round 2", "last round"]
    columns += ["common scores, round 1", "common scores, round 2"]
    return markdown(pd.DataFrame(rows, columns=columns))


def _never_dropped(trainings: Trainings) -> pd.Series:
    """Training photos of each cell whose score is not one of its three commonest."""
    file = {"OASIS": "oasis", "glass-box": "glassbox"}[trainings.name]
    drops = pd.read_parquet(RESULTS / f"{file}_arms_drops.parquet")
    drops = drops[drops.cell.isin(trainings.results.cell)]
    truth = all_sets()[trainings.name].predictions.drop_duplicates("photo").set_index("photo").truth
    labels = drops.photo.map(truth)
    return labels.groupby(drops.cell).agg(
        lambda own: (~own.isin(largest_classes(own.to_numpy()))).sum()
    )


def overfitting() -> str:
    """Accuracy on training and test photos after the last round."""
    rows = []
    for name in ("OASIS", "glass-box"):
        rounds = counted(name).rounds
        last = rounds[rounds["round"] == rounds.groupby("cell")["round"].transform("max")]
        for method in (BASE, TOP, OWN, SCHEDULE):
            own = last[last.arm == names(name)[method]]
            values = (own.train_accuracy.mean(), own.test_accuracy.mean())
            rows.append([name, method, *(f"{value:.2f}" for value in values)])
    columns = ["photos", "method", "training photos", "test photos"]
    return markdown(pd.DataFrame(rows, columns=columns))


def papers_protocol() -> str:
    """Macro-F1 of the round that validation chooses, and of the one that test photos choose."""
    rows = []
    for name in ("OASIS", "glass-box"):
        rounds = counted(name).rounds
        for method in (BASE, OWN, TOP, FIXED, "class weights", "balanced batches"):
            own = rounds[rounds.arm == names(name)[method]]
            honest = own[own.chosen].test_macro_f1.mean()
            best = own.groupby("cell").test_macro_f1.max().mean()
            values = (f"{honest:.3f}", f"{best:.3f}", f"{best - honest:+.3f}")
            rows.append([name, method, *values])
    columns = ["photos", "method", "validation chooses", "test photos choose", "gained"]
    return markdown(pd.DataFrame(rows, columns=columns))


def whom() -> str:
    """What each rule drops, beside dropping as many of each score at random."""
    table = pd.read_csv(RESULTS / "whom_it_drops.csv")
    table = table[table.cells >= comparisons.FEWEST_TRAININGS]
    kinds = {"mean": "", "single_vote": ", single votes"}
    rows = []
    for row in table.sort_values(["dataset", "labels", "target"], kind="stable").itertuples():
        photos = row.dataset + kinds[row.labels]
        method = comparisons.arm_names(all_sets()[photos].recipes)[row.arm]
        sure = row.p_holm < 0.05 and row.gain > 0
        shares = [f"{share:.1%}" for share in (row.precision, row.chance)]
        gain = f"{100 * row.gain:+.1f} {interval(100 * row.low, 100 * row.high, 1)}"
        p = "" if np.isnan(row.p_holm) else f"{row.p_holm:.3f}"
        told = [photos, row.target, method, *shares, gain, p, "yes" if sure else "no"]
        rows.append([*told, f"{row.recall:.1%}", f"{row.share_out:.1%}"])
    columns = ["photos", "which", "method", "among the dropped", "by chance"]
    columns += ["above chance, in 100", "p (Holm)", "beyond chance", "of them dropped", "of all"]
    return markdown(pd.DataFrame(rows, columns=columns))


def dropped(dataset: str, target: str, arm: str, expected: str) -> str:
    """`26 of 100, by chance 21`, for an arm of the table; checked as `found` or `not found`."""
    table = pd.read_csv(RESULTS / "whom_it_drops.csv")
    method = comparisons.arm_names(all_sets()[dataset].recipes)
    rows = table[(table.target == target) & (table.arm.map(method) == arm)]
    row = rows[rows.labels == ("single_vote" if "single" in dataset else "mean")].iloc[0]
    sure = row.p_holm < 0.05 and row.gain > 0
    _check(f"{dataset}, {target}, {arm}", "found" if sure else "not found", expected)
    return f"{100 * row.precision:.0f} of 100, where chance would find {100 * row.chance:.0f}"


def small_studies(name: str) -> str:
    """A set with few trainings: what its arms reach, beside the same folds of OASIS."""
    trainings = counted(name)
    same = trainings.results.set_index(["seed", "fold"]).index.unique()
    beside = counted("OASIS").results.set_index(["seed", "fold"])
    beside = beside[beside.index.isin(same)].groupby("arm")[list(THREE)].mean()
    own = trainings.results.groupby("arm")[list(THREE)].mean()
    rows = []
    for method, arm in names(name).items():
        if arm in own.index:
            values = [f"{own[m][arm]:.3f} ({beside[m][arm]:.3f})" for m in THREE]
            rows.append([method, *values])
    return markdown(pd.DataFrame(rows, columns=["method", *(MEASURES[m] for m in THREE)]))


def twins() -> str:
    """How far two trainings of the same arm, fold and seed differ by precision alone."""
    place = ["arm", "seed", "fold"]
    one = pd.read_csv(RESULTS / "glassbox_float32.csv").set_index(place)
    other = counted("glass-box").results.set_index(place).loc[one.index]
    gap = (one[list(THREE)] - other[list(THREE)]).abs()
    more = one.rounds > 1
    same_round = (one.chosen == other.chosen)[more].sum()
    words = [f"{gap[m].median():.3f} in {MEASURES[m]} (at most {gap[m].max():.3f})" for m in THREE]
    return (
        f"{len(one)} trainings were made twice, in float32 and in bfloat16. In the median they "
        f"differ by {', '.join(words[:-1])} and {words[-1]}. Validation chose the same round for "
        f"{same_round} of the {more.sum()} that have more than one."
    )


# The other studies.


def two_accuracies() -> str:
    """What each kind of split reports, and what the networks are worth."""
    told = pd.read_csv(RESULTS / "two_accuracies.csv")
    told = told[told["round"] == told["round"].max()]
    words = {}
    for (_, _, arm), recipe in _two_recipes().items():
        words[arm] = _method(recipe)
    splits = {"never": "one split", "rotating": "rotating fifths", "fresh": "fresh in every round"}
    told = told.assign(arm=told.arm.map(words), split=told.resplit.map(splits))
    columns = {"held_out": "held out", "held_out_kept": "held out, unlikely ones dropped"}
    columns |= {"original": "original training photos", "untouched": "untouched (worth)"}
    table = told.groupby(["arm", "split"], sort=False)[list(columns)].mean().reset_index()
    for column in columns:
        table[column] = table[column].map("{:.3f}".format)
    return markdown(table.rename(columns=columns | {"arm": "network"}))


def _two_recipes() -> dict:
    return comparisons.read_recipes(RESULTS / "two_accuracies.json")


def _method(recipe: Recipe) -> str:
    return comparisons.in_words(replace(recipe, resplit="never"), recipe.rounds)


def regions() -> str:
    """Highlight regions and their rivals against the subject's mask."""
    table = pd.read_csv(RESULTS / "highlight_regions.csv")
    table = table[table.minus == "nothing"]
    last = table.later.max()
    late = (table.later == last) & (table.earlier == last - 1)
    early = table.later == 2
    plain = table.method == "highlight"
    shown = {
        "highlight, last pair of rounds": plain & late,
        "highlight, first pair of rounds": plain & early,
        "last pair, nothing dropped": table.method == "highlight, no photo dropped",
        "noise of the same norm": table.method == "highlight, noise for a step",
        "a channel at random": table.method == "random channel",
        "the centre": table.method == "centre",
        "spectral residual": table.method == "spectral residual",
        "Grad-CAM, last network": table.method == "Grad-CAM, last network",
    }
    rows = []
    for said, which in shown.items():
        own = table[which].set_index("measure")
        rows.append([said, *(_three(own.loc[m]) for m in ("iou", "auc", "pointing"))])
    columns = ["map", "IoU with the subject", "AUC", "pointing"]
    return markdown(pd.DataFrame(rows, columns=columns))


def _three(row: pd.Series, digits: int = 3) -> str:
    return f"{row['mean']:.{digits}f} [{row.low:.{digits}f}, {row.high:.{digits}f}]"


def covered() -> str:
    """How far covering a region moves the expected score, beside covering as much elsewhere."""
    table = pd.read_csv(RESULTS / "highlight_deletion.csv")
    rows = []
    for row in table.itertuples():
        pair = "" if np.isnan(row.later) else f" ({row.later:.0f}, {row.earlier:.0f})"
        photos = {"real": "OASIS"}.get(row.dataset, row.dataset)
        moved = [f"{value:.2f}" for value in (row.region, row.elsewhere)]
        gap = f"{signed(row.difference)} {interval(row.low, row.high)}"
        rows.append([photos, row.method + pair, *moved, gap])
    columns = ["photos", "region of", "region covered", "as much elsewhere", "difference"]
    return markdown(pd.DataFrame(rows, columns=columns))


def weighting() -> str:
    """AWCU-2018's networks against the plain one, and weighting against dropping."""
    arms = ["AesCNN 2", "AesCNN 3", "AesCNN 6", "AesCNN 10", "AesCNN dropping"]
    arms += ["AesAttCNN 1", "AesAttCNN 6"]
    pairs = [(arm, "AesCNN 1") for arm in arms] + [("AesCNN 6", "AesCNN dropping")]
    words = {"AesCNN dropping": "AesCNN, ambiguous photos dropped"}
    rows = []
    for photos in ("glass-box", "OASIS"):
        for arm, base in pairs:
            named = [words.get(n, n.replace("CNN ", "CNN, b/a = ")) for n in (arm, base)]
            gain, over_photos, over_folds, p = weighted_gain(photos, arm, base)
            told = [photos, *named, f"{gain:+.1f}", interval(*over_folds, 1)]
            rows.append([*told, interval(*over_photos, 1), f"{p:.2f}"])
    columns = ["photos", "method", "against", "accuracy, %", "over trainings", "over photos", "p"]
    return markdown(pd.DataFrame(rows, columns=columns))


def weighted_gain(photos: str, arm: str, base: str) -> tuple:
    """Percent of accuracy that an arm is above another: over photos, over folds, and p."""
    margins = pd.read_parquet(RESULTS / "sample_weighting_margins.parquet")
    margins = margins[margins.dataset == photos]
    right = (margins.margin > 0) == (margins.high == 1)
    wide = margins.assign(right=100.0 * right).pivot(
        index=["seed", "photo"], columns="arm", values="right"
    )
    gain = (wide[arm] - wide[base]).groupby("photo").mean()
    over_photos = bootstrap((gain,), np.mean, rng=0, method="percentile").confidence_interval
    results = pd.read_csv(RESULTS / "sample_weighting.csv")
    results = results[results.dataset == photos]
    cells = results.pivot(index=["seed", "fold"], columns="arm", values="accuracy")
    folds = 100 * (cells[arm] - cells[base]).to_numpy()
    _, low, high, p = corrected_interval(folds, test_over_train=TEST_OVER_TRAIN)
    return gain.mean(), tuple(over_photos), (low, high), p


def activation_maps() -> str:
    """Activation maps and their rivals against the subject's mask."""
    table = pd.read_csv(RESULTS / "activation_maps.csv")
    table = table[table.minus == "nothing"]
    rows = []
    for method, own in table.groupby("method", sort=False):
        own = own.set_index("measure")
        rows.append([method, *(_three(own.loc[m]) for m in ("iou", "auc", "pointing"))])
    columns = ["map", "IoU of its region with the subject", "AUC", "pointing"]
    return markdown(pd.DataFrame(rows, columns=columns))


def crops() -> str:
    """What a crop by AesAM changes against the photo, and against a crop at random."""
    table = pd.read_csv(RESULTS / "crops.csv")
    table = table[table.method == "AesAM"].set_index(["dataset", "measure", "minus"])
    words = {"own_network": "probability of high, the network that cropped"}
    words |= {"other_network": "probability of high, a network of another seed"}
    words |= {"quality": "true quality", "mask_recall": "share of the subject held"}
    rows = []
    for photos in ("glass-box", "OASIS"):
        for measure, said in words.items():
            if (photos, measure, "random") in table.index:
                both = [table.loc[(photos, measure, m)] for m in ("nothing", "random")]
                rows.append([photos, said, *(_three(row) for row in both)])
    columns = ["photos", "what", "against the photo", "against a crop at random"]
    table = pd.DataFrame(rows, columns=columns)
    held = table.what == "share of the subject held"
    table.loc[held, "what"] = "share of the subject held (in the photo: all)"
    return markdown(table)


def studies() -> str:
    """Of each study: photos, trainings, network, pixels, and the command that makes it again."""
    rows = []
    for name, trainings in all_sets().items():
        recipe = next(iter(trainings.recipes.values()))
        count = trainings.results.groupby("arm").size().max()
        photos = trainings.predictions.photo.nunique()
        rows.append([f"dropping: {name}", photos, _per_arm(count), *_seen_by(recipe), _made(name)])
    recipe = next(iter(_two_recipes().values()))
    told = pd.read_csv(RESULTS / "two_accuracies.csv")
    runs = told.groupby(["seed", "fold"]).ngroups
    photos = all_sets()["OASIS"].predictions.photo.nunique()
    by = "`benchmarks/two_accuracies.py`"
    rows.append(["two accuracies: OASIS", photos, _per_arm(runs), *_seen_by(recipe), by])
    rows += _without_sweep()
    columns = ["study", "photos", "trainings", "network", "pixels", "make it again"]
    return markdown(pd.DataFrame(rows, columns=columns))


def _per_arm(count: int) -> str:
    return f"{count} an arm"


def _seen_by(recipe: Recipe) -> tuple[str, str]:
    start = "starter weights" if recipe.weights == "starter" else "ImageNet weights"
    network = {"squeezenet1_0": "SqueezeNet 1.0", "squeezenet1_1": "SqueezeNet 1.1"}
    side = recipe.training.shrink_to or 227
    return f"{network[recipe.backbone]}, {start}", f"{side} by {side}"


def _made(name: str) -> str:
    for file in ("oasis_arms", "glassbox_arms"):
        for told in json.loads((RESULTS / f"{file}.json").read_text())["grids"].values():
            grid = told["grid"]
            dataset = re.search(r'dataset = "(.*)"', grid)[1]
            label = ", single votes" if 'labels = "single_vote"' in grid else ""
            if dataset + label == name:
                return f"`{told['command']}`"
    raise InputError(f"No grid is kept for {name}.")


def _without_sweep() -> list[list]:
    whole, maps_too = "227 by 227", "227 by 227, maps of 256 by 256"
    rows = []
    of_regions = json.loads((RESULTS / "highlight_regions.json").read_text())
    settings, backbone = of_regions["settings"], "SqueezeNet 1.1, starter weights"
    seeds = f"{settings['seeds']} an arm"
    command = f"`{of_regions['command']}`"
    rows.append(["highlight regions", settings["judged"], seeds, backbone, maps_too, command])
    weights = json.loads((RESULTS / "sample_weighting.json").read_text())
    folds = pd.read_csv(RESULTS / "sample_weighting.csv").groupby("dataset").fold.nunique()
    for name, facts in weights["photos"].items():
        network = {"OASIS": "SqueezeNet 1.0, ImageNet weights"}.get(name, backbone)
        told = [facts["photos"], f"{folds[name]} an arm", network, whole]
        rows.append([f"sample weights: {name}", *told, f"`{weights['command']}`"])
    maps = json.loads((RESULTS / "maps_and_crops.json").read_text())
    for name, count in maps["photos"].items():
        network = {"OASIS": "SqueezeNet 1.0, ImageNet weights"}.get(name, backbone)
        told = [count, f"{settings['seeds']} an arm", network, maps_too]
        rows.append([f"maps and crops: {name}", *told, f"`{maps['command']}`"])
    return rows


PARTS: dict[str, Callable[..., str]] = {
    "activation_maps": activation_maps,
    "changes": changes,
    "claim": claim,
    "covered": covered,
    "crops": crops,
    "difference": difference,
    "dropped": dropped,
    "majority": majority,
    "mean": mean,
    "means": means,
    "over_rounds": over_rounds,
    "overfitting": overfitting,
    "papers_protocol": papers_protocol,
    "rare_share": rare_share,
    "regions": regions,
    "small_studies": small_studies,
    "spread": spread,
    "studies": studies,
    "training_sets": training_sets,
    "twins": twins,
    "two_accuracies": two_accuracies,
    "visible": visible,
    "weighting": weighting,
    "whom": whom,
}


if __name__ == "__main__":
    main()

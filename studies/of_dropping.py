"""Does dropping help? Differences and tables of the kept sweeps, for the page of findings."""

from functools import cache

import numpy as np
import pandas as pd
from said import check, interval, markdown, percent, signed

from rsrl_lib.comparing import comparisons
from rsrl_lib.comparing.comparisons import MEASURES, Trainings
from rsrl_lib.drop_rules import largest_classes
from rsrl_lib.files import ROOT
from rsrl_lib.measures import of_rare_scores
from rsrl_lib.recipe import Recipe

RESULTS = ROOT / "data" / "results"
COMPARED = ("OASIS", "OASIS, single votes", "glass-box")
"""Sets of photos with enough trainings to compare arms."""
DRAWN = ("OASIS", "glass-box")
"""Those on which all arms were trained."""
DROPPING, IMBALANCE = "dropping, chosen inside", "an answer to imbalance, chosen inside"
BASE, FIRST = "training on", "the first network"
OWN, TOP = "RSRL's rule, 67 % kept", "SSRL-2019's rule, 67 % kept"
FIXED, SCHEDULE = "RSRL's rule, K = 0.9", "RSRL's rule, K = 0.9 then 0.95"
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
    """Arm by method, of a set: training on first, then what drops, then other answers."""
    recipes = all_sets()[name].recipes
    words = comparisons.arm_names(recipes)
    order = sorted(recipes, key=lambda arm: (_family(recipes[arm]), words[arm]))
    present = set(counted(name).results.arm)
    chosen = {arm: arm for arm in (DROPPING, IMBALANCE) if arm in present}
    return {words[arm]: arm for arm in order} | chosen


def _family(recipe: Recipe) -> int:
    kinds = (
        comparisons.trains_on(recipe),
        comparisons.drops_by_likelihood(recipe),
        not comparisons.answers_imbalance(recipe),
    )
    return kinds.index(True) if any(kinds) else len(kinds)


@cache
def drawn(name: str, apart: bool) -> dict:
    return comparisons.resampled(counted(name, apart))


def compared(name: str, pairs: list, *, apart: bool = False) -> pd.DataFrame:
    """Differences of methods, a row per pair and measure, with `method` and `base` in words."""
    arms = names(name)
    tables = []
    for method, base, measures in pairs:
        pair = [(arms[method], arms[base])]
        own = counted(name, apart), pair, drawn(name, apart)
        table = comparisons.differences(*own, measures)
        tables.append(table.assign(method=method, base=base))
    return pd.concat(tables, ignore_index=True).assign(photos=name)


@cache
def to_base(name: str, apart: bool = False) -> pd.DataFrame:
    """All arms of a set against training on, corrected for as many arms in each measure."""
    pairs = [(method, BASE, tuple(MEASURES)) for method in names(name) if method != BASE]
    return comparisons.judged(compared(name, pairs, apart=apart))


@cache
def answers(asked: str, apart: bool = False) -> pd.DataFrame:
    """Claims of the papers, or questions of ours, each corrected for all of its kind in a set."""
    kinds = {"claims": CLAIMS, "questions": QUESTIONS}[asked]
    tables = []
    for name in COMPARED:
        for key, pairs in kinds.items():
            known = [pair for pair in pairs if {*pair[:2]} <= set(names(name))]
            if known:
                tables.append(compared(name, known, apart=apart).assign(key=key))
    return comparisons.judged(pd.concat(tables, ignore_index=True), ("photos",))


def difference(name: str, method: str, measure: str, expected: str) -> str:
    """One difference to training on, with its interval over trainings; checked as `expected`."""
    table = to_base(name).set_index(["method", "measure"])
    row = table.loc[(method, measure)]
    check(f"{method}, {measure}, {name}", row.verdict, expected)
    return f"{signed(row.difference)} {interval(row.trainings_low, row.trainings_high)}"


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


def verdicts(key: str) -> str:
    """All verdicts on a claim, in a few words; those with every score apart where they differ."""
    words = {"better": "supported", "worse": "contradicted"}
    table, apart = answers("claims"), answers("claims", apart=True)
    said = []
    for row, other in zip(table.itertuples(), apart.itertuples(), strict=True):
        where = f"in {MEASURES[row.measure]} ({row.method}, {row.photos})"
        if row.key == key and row.verdict in words:
            said.append(f"{words[row.verdict]} {where}")
        if row.key == key and row.verdict != other.verdict:
            otherwise = words.get(other.verdict, other.verdict)
            said.append(f"{otherwise} {where} with every score apart")
    return "; ".join([*said, "else undecided"]) if said else "undecided"


def effect(key: str, measure: str) -> str:
    """The first difference of a claim, on real photos and on drawn ones."""
    table = answers("claims")
    own = table[(table.key == key) & (table.measure == measure)].drop_duplicates("photos")
    own = own[own.photos.isin(DRAWN)]
    said = [
        f"{row.photos} {signed(row.difference)} {interval(row.trainings_low, row.trainings_high)}"
        for row in own.itertuples()
    ]
    return f"{MEASURES[measure]}: {', '.join(said)}"


def believable(name: str, verdict: str) -> str:
    """All that is believably better, or worse, than training on, by measure."""
    table = to_base(name)
    table = table[table.verdict == verdict]
    said = [
        f"{', '.join(own.method)} (in {MEASURES[measure]})"
        for measure, own in table.groupby("measure", sort=False)
    ]
    return "; ".join(said) or "nothing"


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
        ends = [value for name in DRAWN for value in _ends(name, method, measure)]
        rows.append([method, *(f"{value:.2f}" for value in ends)])
    columns = [f"{name}, {end} round" for name in DRAWN for end in ("first", "last")]
    return markdown(pd.DataFrame(rows, columns=["method", *columns]))


def moves(measure: str, name: str, method: str, expected: str) -> str:
    """`.54 to .80` of a measure from the first round to the last; checked as `up` or `down`."""
    first, last = _ends(name, method, measure)
    check(f"{measure}, {method}, {name}", "up" if last > first else "down", expected)
    return f"{first:.2f} to {last:.2f}"


def _ends(name: str, method: str, measure: str) -> tuple[float, float]:
    rounds = counted(name).rounds
    by_round = rounds[rounds.arm == names(name)[method]].groupby("round")[measure].mean()
    return by_round.iloc[0], by_round.iloc[-1]


def spread() -> str:
    """Share of the test photos that get a rare score, beside F of rare and of common scores."""
    rows = []
    for name in DRAWN:
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
    asked = [(name, method) for name in DRAWN for method in (TOP, OWN, FIXED, SCHEDULE)]
    rows = []
    for name, method in [*asked, ("OASIS, 30 rounds", SCHEDULE)]:
        rounds = counted(name).rounds
        own = rounds[rounds.arm == names(name)[method]]
        kept = own.groupby("round").kept.mean()
        rare = _never_dropped(name)[own.cell.unique()].mean()
        common = [1 - rare / kept[number] for number in (1, 2)]
        sizes = [f"{kept[number]:.0f}" for number in (1, 2, kept.index[-1])]
        rows.append([name, method, *sizes, *(percent(share) for share in common)])
    columns = ["photos", "method", "round 1", "round 2", "last round"]
    columns += ["common scores, round 1", "common scores, round 2"]
    return markdown(pd.DataFrame(rows, columns=columns))


@cache
def _never_dropped(name: str) -> pd.Series:
    """Training photos of each cell whose score is not one of its three commonest."""
    whole = name.split(",")[0]  # a set that has all folds tests every photo, and so knows its score
    file = {"OASIS": "oasis", "glass-box": "glassbox"}[whole]
    drops = pd.read_parquet(RESULTS / f"{file}_arms_drops.parquet")
    drops = drops[drops.cell.isin(counted(name).results.cell)]
    truth = all_sets()[whole].predictions.drop_duplicates("photo").set_index("photo").truth
    labels = drops.photo.map(truth)
    return labels.groupby(drops.cell).agg(
        lambda own: (~own.isin(largest_classes(own.to_numpy()))).sum()
    )


def overfitting() -> str:
    """Accuracy on training and test photos after the last round."""
    rows = []
    for name in DRAWN:
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
    for name in DRAWN:
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
        shares = [percent(share, 1) for share in (row.precision, row.chance)]
        gain = f"{100 * row.gain:+.1f} {interval(100 * row.low, 100 * row.high, 1)}"
        p = "" if np.isnan(row.p_holm) else f"{row.p_holm:.3f}"
        told = [photos, row.target, method, *shares, gain, p, "yes" if sure else "no"]
        rows.append([*told, percent(row.recall, 1), percent(row.share_out, 1)])
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
    check(f"{dataset}, {target}, {arm}", "found" if sure else "not found", expected)
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
        if arm in own.index and method != DROPPING:
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

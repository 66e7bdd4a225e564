"""Two ways of tuning: effects, dropped photos and time, for the page of findings."""

from functools import cache
from itertools import product

import numpy as np
import pandas as pd
from of_dropping import RESULTS
from said import check, interval, markdown, percent, signed

from rsrl_lib.comparing.comparisons import TEST_OVER_TRAIN, corrected_interval, holm
from rsrl_lib.recipe import Recipe

DRAWN, REAL = "glass-box", "OASIS, training part"
WAYS = ("fine-tuned", "frozen")
BASE = "keep training"
ARMS = {
    BASE: "training on",
    "own-class K=0.9": "RSRL's rule, K = 0.9",
    "own-class two thirds": "RSRL's rule, 67 % kept",
    "top-class two thirds": "SSRL-2019's rule, 67 % kept",
    "random, as many as two thirds": "at random, as many as RSRL's rule, 67 % kept",
    "cross-fitted two thirds": "RSRL's rule, 67 % kept, judged by who has not seen the photo",
}
"""Arms of the kept tables, in words."""
ASKED = list(ARMS)[1:5]
"""Those whose effects are compared."""
MEASURES = {"test_macro_f1": "macro-F1", "test_accuracy": "accuracy", "test_kappa": "kappa"}
MARGIN = 0.05
"""Effects that surely differ by less count as the same."""


@cache
def kept_table(name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / f"two_ways_{name}.csv")


@cache
def last_effects(photos: str) -> pd.DataFrame:
    """What each arm changes after the last round, a row per way, arm, seed and fold."""
    rounds = kept_table("rounds")
    rounds = rounds[(rounds.photos == photos) & rounds.way.isin(WAYS)]
    last = rounds[rounds["round"] == rounds["round"].max()]
    values = last.set_index(["way", "arm", "seed", "fold"])[list(MEASURES)].sort_index()
    base = values.xs(BASE, level="arm")
    effects = []
    for arm in ASKED:
        if arm in values.index.get_level_values("arm"):
            change = values.xs(arm, level="arm") - base
            effects.append(change.assign(arm=arm).set_index("arm", append=True))
    return pd.concat(effects)


@cache
def gaps() -> pd.DataFrame:
    """Effects in both ways on drawn photos and the gap between them, with what was found."""
    effects = last_effects(DRAWN)
    rows = []
    for arm in ASKED:
        for measure in MEASURES:
            both = [effects[measure].xs((way, arm), level=("way", "arm")) for way in WAYS]
            gap = (both[0] - both[1]).dropna().to_numpy()
            mean, low, high, p = corrected_interval(gap, test_over_train=TEST_OVER_TRAIN)
            row = {"arm": arm, "measure": measure, "gap": mean, "low": low, "high": high, "p": p}
            for way, effect in zip(WAYS, both, strict=True):
                own = corrected_interval(effect.to_numpy(), test_over_train=TEST_OVER_TRAIN)
                row |= {way: own[0], f"{way} low": own[1], f"{way} high": own[2]}
            rows.append(row | {"trainings": len(gap)})
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table.p)
    is_same = (table.low >= -MARGIN) & (table.high <= MARGIN)
    is_another = ((table.low > 0) | (table.high < 0)) & (table.p_holm < 0.05)
    table["verdict"] = np.select([is_another, is_same], ["another", "the same"], "undecided")
    return table


def way_of(recipe: Recipe) -> str:
    return "frozen" if recipe.tune == "head" else "fine-tuned"


def trainings() -> pd.Series:
    """How many trainings an arm has, by photos and way."""
    rounds = kept_table("rounds")
    base = rounds[(rounds.arm == BASE) & (rounds["round"] == 1)]
    return base.groupby(["photos", "way"]).size()


def two_gaps() -> str:
    """What dropping changes in both ways on drawn photos, and the gap between them."""
    rows = []
    for row in gaps().to_dict("records"):
        ways = [
            f"{signed(row[way])} {interval(row[f'{way} low'], row[f'{way} high'])}" for way in WAYS
        ]
        gap = f"{signed(row['gap'])} {interval(row['low'], row['high'])}"
        told = [ARMS[row["arm"]], MEASURES[row["measure"]], *ways, gap]
        rows.append([*told, f"{row['p_holm']:.3f}", row["verdict"]])
    columns = ["method", "measure", *WAYS, "gap", "p (Holm)", "effect is"]
    return markdown(pd.DataFrame(rows, columns=columns))


def two_verdicts(verdict: str) -> str:
    """How many of the gaps have this verdict."""
    found = gaps().verdict
    return f"{(found == verdict).sum()} of {len(found)}"


def two_effect(arm: str, measure: str, way: str, expected: str) -> str:
    """An effect on drawn photos in one way; checked as `loses`, `gains` or `unsure`."""
    table = gaps().assign(arm=gaps().arm.map(ARMS)).set_index(["arm", "measure"])
    row = table.loc[(arm, measure)]
    low, high = row[f"{way} low"], row[f"{way} high"]
    found = "gains" if low > 0 else "loses" if high < 0 else "unsure"
    check(f"{arm}, {measure}, {way}", found, expected)
    return f"{signed(row[way])} {interval(low, high)}"


def two_levels() -> str:
    """What every arm reaches in both ways, after the first round and after the last."""
    rounds = kept_table("rounds")
    rows = []
    for photos in (DRAWN, REAL):
        own = rounds[(rounds.photos == photos) & rounds.way.isin(WAYS)]
        for arm in ARMS:
            for way in WAYS:
                table = own[(own.arm == arm) & (own.way == way)]
                table = of_shared(table, own)
                if len(table):
                    rows.append([photos, ARMS[arm], way, *first_and_last(table)])
    columns = ["photos", "method", "way", "trainings"]
    columns += [f"{name}, first and last round" for name in MEASURES.values()]
    return markdown(pd.DataFrame(rows, columns=columns))


def of_shared(table: pd.DataFrame, every: pd.DataFrame) -> pd.DataFrame:
    """Trainings on the seeds and folds that were fine-tuned too, so that both are held alike."""
    places = every[every.way == "fine-tuned"][["seed", "fold"]].drop_duplicates()
    return table.merge(places)


def first_and_last(table: pd.DataFrame) -> list[str]:
    by_round = table.groupby("round")[list(MEASURES)].mean()
    first, last = by_round.iloc[0], by_round.iloc[-1]
    count = table.groupby(["seed", "fold"]).ngroups
    return [str(count), *(f"{first[name]:.2f}, {last[name]:.2f}" for name in MEASURES)]


def two_sizes() -> str:
    """Share of the training photos that a fixed K keeps, in both ways."""
    rows = []
    for photos in (DRAWN, REAL):
        for way in WAYS:
            share = kept_share(photos, "own-class K=0.9", way)
            rows.append(
                [photos, way, *(percent(share[number]) for number in (2, 3, max(share.index)))]
            )
    columns = ["photos", "way", "round 2", "round 3", "last round"]
    return markdown(pd.DataFrame(rows, columns=columns))


def kept_share(photos: str, arm: str, way: str) -> pd.Series:
    """Mean share of the training photos that a round learns from, by round."""
    rounds = kept_table("rounds")
    every = rounds[rounds.photos == photos]
    own = of_shared(every[(every.arm == arm) & (every.way == way)], every)
    return (own.kept / own.photos_in_all).groupby(own["round"]).mean()


def two_range(photos: str, way: str) -> str:
    """Share of the photos that K = 0.9 keeps in round 2: in the training with least, and most."""
    rounds = kept_table("rounds")
    of_second = rounds[(rounds.photos == photos) & (rounds["round"] == 2)]
    own = of_second[(of_second.arm == "own-class K=0.9") & (of_second.way == way)]
    share = own.kept / own.photos_in_all
    return f"{percent(share.min())} to {percent(share.max())}"


def two_by_kept(most: str) -> str:
    """Mean change of accuracy in the frozen drawings of which K = 0.9 keeps up to half, or more."""
    rounds = kept_table("rounds")
    arm = "own-class K=0.9"
    own = rounds[(rounds.photos == DRAWN) & (rounds.arm == arm) & (rounds.way == "frozen")]
    second = own[own["round"] == 2].set_index(["seed", "fold"])
    is_few = second.kept <= second.photos_in_all / 2
    effect = last_effects(DRAWN).test_accuracy.xs(("frozen", arm), level=("way", "arm"))
    chosen = is_few if most == "up to half" else ~is_few
    return f"{signed(effect[chosen[chosen].index].mean())} in {chosen.sum()} trainings"


def two_moves(photos: str, arm: str, way: str, measure: str, expected: str) -> str:
    """A measure after the first and after the last round; checked as `up`, `down` or `level`."""
    rounds = kept_table("rounds")
    every = rounds[(rounds.photos == photos) & rounds.way.isin(WAYS)]
    own = of_shared(every[(every.arm.map(ARMS) == arm) & (every.way == way)], every)
    by_round = own.groupby("round")[measure].mean()
    first, last = by_round.iloc[0], by_round.iloc[-1]
    found = "level" if abs(last - first) < 0.005 else "up" if last > first else "down"
    check(f"{measure}, {arm}, {way}, {photos}", found, expected)
    return f"{first:.2f} to {last:.2f}"


def two_found(arm: str, way: str, expected: str) -> str:
    """Mislabelled drawings among the dropped; checked as `found` or `not found`."""
    table = kept_table("mislabelled")
    row = table[(table.arm.map(ARMS) == arm) & (table.way == way)].iloc[0]
    check(f"mislabelled, {arm}, {way}", "found" if beyond_chance(row) else "not found", expected)
    return f"{100 * row.precision:.0f} of 100, by chance {100 * row.chance:.0f}"


def beyond_chance(row: pd.Series) -> bool:
    return row.p_holm < 0.05 and row.gain > 0


def two_settled(photos: str, arm: str, way: str) -> str:
    """In how many trainings the kept photos settle."""
    cells = kept_table("cells")
    is_way = cells.way.str.startswith(way)
    own = cells[(cells.photos == photos) & (cells.arm.map(ARMS) == arm) & is_way]
    return f"{(own.kept_photos == 'settled').sum()} of {len(own)}"


def two_agreements() -> str:
    """How far both ways drop the same photos, beside chance and beside the twins."""
    table = kept_table("agreement")
    out = kept_table("out").groupby(["photos", "pair", "arm"]).rank_correlation
    ranks, counts = out.mean(), out.size()
    rows = []
    for (photos, pair, arm), own in table.groupby(["photos", "pair", "arm"], sort=False):
        names = ["jaccard", "jaccard_by_chance", "agreement", "logits"]
        values = [f"{own[name].mean():.2f}" for name in names]
        spread = own.groupby(["seed", "fold"]).agreement.mean()
        values[2] += f" ({spread.min():.2f} to {spread.max():.2f})"
        place = photos, pair, arm
        rank = f"{ranks[place]:.2f} ({counts[place]})" if place in ranks else ""
        rows.append([photos, ARMS[arm], pair, len(spread), *values, rank])
    columns = ["photos", "method", "pair", "trainings", "overlap", "by chance", "agreement"]
    columns += ["ranks of likelihoods", "ranks of rounds left out (trainings)"]
    return markdown(pd.DataFrame(rows, columns=columns))


def two_agreement(photos: str, arm: str, pair: str) -> str:
    """Mean agreement of the dropped photos, over rounds and trainings."""
    table = kept_table("agreement")
    is_asked = (table.photos == photos) & (table.arm.map(ARMS) == arm) & (table.pair == pair)
    return f"{table[is_asked].agreement.mean():.2f}"


def two_ranks(photos: str, arm: str, pair: str) -> str:
    """Mean rank correlation of the rounds that photos were left out of, over trainings."""
    table = kept_table("out")
    is_asked = (table.photos == photos) & (table.arm.map(ARMS) == arm) & (table.pair == pair)
    return f"{table[is_asked].rank_correlation.mean():.2f}"


def two_wrong() -> str:
    """Mislabelled drawings among what both ways drop, beside chance."""
    rows = []
    table = kept_table("mislabelled")
    for arm, way in product(list(ARMS)[1:], WAYS):
        row = table[(table.arm == arm) & (table.way == way)].iloc[0]
        shares = [percent(share, 1) for share in (row.precision, row.chance)]
        gain = f"{100 * row.gain:+.1f} {interval(100 * row.low, 100 * row.high, 1)}"
        p = "" if np.isnan(row.p_holm) else f"{row.p_holm:.3f}"
        said = "yes" if beyond_chance(row) else "no"
        rows.append([ARMS[arm], way, *shares, gain, p, said])
    columns = ["method", "way", "among the dropped", "by chance", "above chance, in 100"]
    return markdown(pd.DataFrame(rows, columns=[*columns, "p (Holm)", "beyond chance"]))


def two_settling() -> str:
    """Whether the kept photos settle, and how many still come or go in the last round."""
    cells, rounds = kept_table("cells"), kept_table("rounds")
    last = rounds[rounds["round"] == rounds.groupby("photos")["round"].transform("max")]
    keys = ["photos", "arm", "way"]
    moved = last.groupby(keys).moved.mean()
    rows = []
    for (photos, arm, way), own in cells.groupby(keys, sort=False):
        if arm in ARMS and arm != BASE:
            counts = own.kept_photos.value_counts()
            states = [counts.get(state, 0) for state in ("settled", "in turn", "neither")]
            share = percent(moved[photos, arm, way], 1)
            rows.append([photos, ARMS[arm], way, len(own), *states, share])
    columns = ["photos", "method", "way", "trainings", "settled", "in turn", "neither"]
    return markdown(pd.DataFrame(rows, columns=[*columns, "come or go in the last round"]))


def two_seconds(photos: str, way: str) -> str:
    """Seconds of a training, the median."""
    cells = kept_table("cells")
    own = cells[(cells.photos == photos) & cells.way.str.startswith(way)]
    return f"{own.seconds.median():.0f}"

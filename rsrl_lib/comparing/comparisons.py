"""Is one way of training better than another, and is that more than chance?

A sweep trains several arms on the same folds and seeds. Here two arms are compared training by
training, so that what they share (photos, folds, starting weights) cancels. Two intervals surround
each difference: over other test photos, and over other trainings. What an arm does is read from its
recipe, never from its name.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from scipy import stats

from rsrl_lib.comparing.grids import read_grid
from rsrl_lib.comparing.sweeps import read_results
from rsrl_lib.drop_rules import largest_classes
from rsrl_lib.files import InputError
from rsrl_lib.measures import of_confusions, of_rare_scores
from rsrl_lib.protocols import merge_rare
from rsrl_lib.recipe import Recipe

TEST_OVER_TRAIN = 0.2 / 0.64
"""Test photos over training photos, in the split of `protocols`."""
FEWEST_TRAININGS = 3
"""Trainings of an arm below which nothing is believed."""
FEWEST_PHOTOS = 5
"""Photos of a score in a test fold, in the mean, below which it counts as its neighbour."""
MEASURES = {
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "rare_f1": "F of rare scores",
    "kappa": "kappa",
    "macro_mae": "macro MAE",
    "accuracy": "accuracy",
}
ERRORS = ("macro_mae",)
"""Measures of which less is better."""

FIVE_ARMS = (
    "training on",
    "RSRL's rule",
    "SSRL-2019's rule",
    "as many at random",
    "balanced batches",
)
"""What has to be compared to know whether dropping helps, see `arms_in_question`."""
RULES = {"own-class": "RSRL's rule", "top-class": "SSRL-2019's rule"}
CONTROLS = {
    "undersample": "undersampling",
    "class-weighted": "class weights",
    "class-balanced": "balanced batches",
    "focal": "focal loss",
    "logit-adjusted": "adjusted logits",
    "emd": "EMD loss",
    "confident-learning": "confident learning",
}
FOLLOWING = {
    "random-drop": "at random, as many as {}",
    "random-drop-same": "at random, always the same, as many as {}",
    "cross-fitted": "{}, judged by networks that have not seen the photo",
}


@dataclass(frozen=True)
class Trainings:
    """All trainings of a sweep on one set of photos, and what each of them answered."""

    name: str
    """The set of photos, and how it is labelled."""
    recipes: dict[str, Recipe]
    """What each arm did."""
    results: pd.DataFrame
    """A row per training: `cell`, `arm`, `seed`, `fold`, and measures on its test photos."""
    predictions: pd.DataFrame
    """A row per training and test photo: the same four, `photo`, `truth`, `assigned`."""
    rounds: pd.DataFrame
    """A row per training and round, see `sweeps`."""

    @property
    def scores(self) -> np.ndarray:
        """All scores from the lowest to the highest that is a truth or an answer."""
        both = self.predictions[["truth", "assigned"]].to_numpy()
        return np.arange(both.min(), both.max() + 1)

    @property
    def rare(self) -> np.ndarray:
        """Which of `scores` are not among the three commonest of the test photos."""
        return ~np.isin(self.scores, largest_classes(self.predictions.truth.to_numpy()))


def read_trainings(paths: Iterable[Path]) -> dict[str, Trainings]:
    """Trainings of the tables of some sweeps, by set of photos.

    Raises `InputError` where a table, or the recipes beside it, are not there.
    """
    found = {}
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{path} is no table of a sweep; make it with rsrl sweep.")
        results = read_results(path)
        # A single vote is what was learned; the truth is what all other raters say.
        results = results[(results.target == "crowd") | (results.labels == "mean")]
        predictions = _beside(path, "predictions")
        rounds = _beside(path, "rounds")
        recipes = read_recipes(path.with_suffix(".json"))

        truth = predictions.get("label", pd.Series(np.nan, predictions.index))
        if "crowd" in predictions:
            truth = predictions.crowd.fillna(truth)
        predictions = predictions.assign(truth=truth.astype(int))

        for (dataset, labels), own in results.groupby(
            ["dataset", "labels"], sort=False
        ):
            name = dataset + (", single votes" if labels == "single_vote" else "")
            if name in found:
                raise InputError(
                    f"{path} holds {name!r}, and so does another table; give one."
                )
            of_set = [t[t.cell.isin(own.cell)] for t in (predictions, rounds)]
            arms = {arm: recipes[dataset, labels, arm] for arm in own.arm.unique()}
            found[name] = measured(Trainings(name, arms, own, *of_set))
    return found


def _beside(path: Path, table: str) -> pd.DataFrame:
    beside = path.with_name(f"{path.stem}_{table}.parquet")
    if not beside.exists():
        raise InputError(f"{beside} is needed beside {path.name}; move them together.")
    return pd.read_parquet(beside)


def read_recipes(path: Path) -> dict[tuple[str, str, str], Recipe]:
    """Recipe by dataset, labels and arm, from the grids that a sweep keeps in its JSON file.

    Raises `InputError` where that is not there.
    """
    if not path.exists():
        raise InputError(
            f"{path} is needed: it says what each arm did; move it with its table."
        )
    found = {}
    with TemporaryDirectory() as folder:
        for name, told in json.loads(path.read_text())["grids"].items():
            grid = Path(folder) / name
            grid.write_text(told["grid"])
            for cell in read_grid(grid):
                found[cell.dataset, cell.labels, cell.arm] = cell.recipe
    return found


def measured(trainings: Trainings) -> Trainings:
    """The same trainings, their measures counted anew from their answers."""
    cells, counts = confusions(trainings)
    found = _all_measures(counts, trainings.scores, trainings.rare)
    results = trainings.results.set_index("cell")
    for name, values in found.items():
        results[name] = pd.Series(values, cells)
    return replace(trainings, results=results.reset_index())


def confusions(trainings: Trainings) -> tuple[pd.Index, np.ndarray]:
    """Confusion matrix of each training: its cells, and counts (cells, labels, assigned)."""
    cell, cells = pd.factorize(trainings.predictions.cell)
    scores = trainings.scores
    places = (
        trainings.predictions[column] - scores[0] for column in ("truth", "assigned")
    )
    counts = np.zeros((len(cells), len(scores), len(scores)))
    np.add.at(counts, (cell, *places), 1)
    return cells, counts


def _all_measures(
    counts: np.ndarray, scores: np.ndarray, rare: np.ndarray
) -> dict[str, np.ndarray]:
    return of_confusions(counts, scores) | of_rare_scores(counts, rare)


def merged(trainings: Trainings) -> tuple[Trainings, dict[int, int]]:
    """The same, a score with hardly a test photo counted as its neighbour, and which that were.

    A score with one test photo would decide a fifth of a macro mean, and resampling would not show
    it: that photo is drawn often or not at all, but always with the same answer.
    """
    predictions = trainings.predictions
    least = FEWEST_PHOTOS * predictions.cell.nunique()
    _, moved = merge_rare(predictions.truth.to_numpy(), least=least)
    both = predictions[["truth", "assigned"]].replace(moved)
    return measured(replace(trainings, predictions=predictions.assign(**both))), moved


def with_chosen(
    trainings: Trainings, name: str, belongs: Callable[[Recipe], bool]
) -> tuple[Trainings, pd.Series]:
    """One more arm: of those that `belongs` names, the one that validation photos prefer.

    A user of a method does not know its best variant either. Chosen is anew for each fold and seed
    that all of these arms were trained on, by summed F. Returned is also the arm picked, by (seed,
    fold); it is empty where there are fewer than two arms.
    """
    arms = [arm for arm, recipe in trainings.recipes.items() if belongs(recipe)]
    results = trainings.results
    candidates = results[results.arm.isin(arms)]
    trained = candidates.groupby(["seed", "fold"]).arm.transform("nunique")
    shared = candidates[trained == len(arms)]
    if len(arms) < 2 or shared.empty:
        return trainings, pd.Series(dtype=str)

    best = shared.loc[shared.groupby(["seed", "fold"]).validation_total_f.idxmax()]
    picked = best.set_index(["seed", "fold"]).arm
    # A cell of the new arm is one of the old: its answers are known already.
    grown = pd.concat([results, best.assign(arm=name)], ignore_index=True)
    return replace(trainings, results=grown), picked


def drops_nothing(recipe: Recipe) -> bool:
    """Whether the drop rule of a recipe has thresholds that no likelihood falls below."""
    rule = recipe.drop
    fitted = rule.keep_share is not None or rule.k_schedule is not None
    return not fitted and rule.k is not None and max(rule.k) == 0


def drops_by_likelihood(recipe: Recipe) -> bool:
    """Whether a recipe is one of the papers': it drops photos that the network finds unlikely."""
    return recipe.control == "none" and not drops_nothing(recipe)


def answers_imbalance(recipe: Recipe) -> bool:
    """Whether a recipe resamples, weighs photos, or takes another loss, and drops nothing."""
    weighs = recipe.weights_ab[0] != recipe.weights_ab[1]
    following = recipe.control in (*FOLLOWING, "confident-learning")
    return not following and (recipe.control != "none" or weighs)


def trains_on(recipe: Recipe) -> bool:
    """Whether a recipe changes nothing but that training goes on."""
    plain = recipe.control == "none" and recipe.weights_ab[0] == recipe.weights_ab[1]
    return plain and drops_nothing(recipe) and recipe.resplit == "never"


def base_arm(trainings: Trainings, given: str = "") -> str:
    """The arm that others are compared with: the one given, or the longest that drops nothing.

    Raises `InputError` where there is none, or more than one.
    """
    recipes = trainings.recipes
    arms = ", ".join(recipes)
    if given:
        if given not in recipes:
            raise InputError(
                f"There is no arm {given!r} for {trainings.name}; found are {arms}."
            )
        return given
    longest = max(recipe.rounds for recipe in recipes.values())
    plain = [
        a
        for a, recipe in recipes.items()
        if trains_on(recipe) and recipe.rounds == longest
    ]
    if len(plain) == 1:
        return plain[0]
    found = f"{len(plain)} of them do that" if plain else "none does"
    raise InputError(
        f"One arm of {trainings.name} has to train on without dropping (k = [0.0], as many rounds "
        f"as the others), {found}; found are {arms}. Name the one to compare with as `base`."
    )


def arms_in_question(trainings: Trainings, base: str = "") -> dict[str, str]:
    """The arms that tell whether dropping helps, by what they do; those that a sweep has of five.

    Of several that drop by a rule it is the one whose threshold is fitted to a share to keep. At
    random drops the arm that follows that of RSRL's rule, where there is one.
    """
    recipes = trainings.recipes

    def first(
        fits: Callable[[Recipe], bool], preferred: Callable[[Recipe], bool]
    ) -> str | None:
        arms = [arm for arm, recipe in recipes.items() if fits(recipe)]
        return min(arms, key=lambda arm: not preferred(recipes[arm]), default=None)

    def of_rule(rule: str) -> str | None:
        return first(
            lambda recipe: drops_by_likelihood(recipe) and recipe.drop.rule == rule,
            lambda recipe: recipe.drop.keep_share is not None,
        )

    by_rule = of_rule("own-class")
    followed = recipes[by_rule].drop if by_rule else None
    found = {
        FIVE_ARMS[0]: base_arm(trainings, base),
        FIVE_ARMS[1]: by_rule,
        FIVE_ARMS[2]: of_rule("top-class"),
        FIVE_ARMS[3]: first(
            lambda recipe: recipe.control == "random-drop",
            lambda recipe: recipe.drop == followed,
        ),
        FIVE_ARMS[4]: first(
            lambda recipe: recipe.control == "class-balanced", lambda _: True
        ),
    }
    return {method: arm for method, arm in found.items() if arm}


def most_telling(
    sets: dict[str, Trainings], base: str = ""
) -> dict[str, dict[str, str]]:
    """`arms_in_question` of the sets that have most of the five arms.

    Raises `InputError` where no set has an arm to compare with.
    """
    found, wrong = {}, []
    for name, trainings in sets.items():
        try:
            found[name] = arms_in_question(trainings, base)
        except InputError as error:
            wrong.append(error)
    if not found:
        raise wrong[0]
    most = max(map(len, found.values()))
    return {name: arms for name, arms in found.items() if len(arms) == most}


def arm_names(recipes: dict[str, Recipe]) -> dict[str, str]:
    """Each arm's method in words, told from its recipe; the arm's own name where two are alike."""
    longest = max(recipe.rounds for recipe in recipes.values())
    words = {arm: in_words(recipe, longest) for arm, recipe in recipes.items()}
    alike = pd.Series(words).duplicated(keep=False)
    return {
        arm: f"{said} ({arm})" if alike[arm] else said for arm, said in words.items()
    }


def in_words(recipe: Recipe, longest: int) -> str:
    """The method of a recipe; one that drops nothing trains on, unless it ends before `longest`."""
    if recipe.control in CONTROLS:
        return CONTROLS[recipe.control]
    if trains_on(recipe):
        return "training on" if recipe.rounds == longest else "the first network"
    if drops_nothing(recipe):
        return "ambiguous photos weighted {:g}:{:g}".format(*recipe.weights_ab)
    rule = f"{RULES[recipe.drop.rule]}, {_threshold_in_words(recipe)}"
    return FOLLOWING.get(recipe.control, "{}").format(rule)


def _threshold_in_words(recipe: Recipe) -> str:
    rule = recipe.drop
    if rule.keep_share is not None:
        return f"{100 * rule.keep_share:.0f} % kept"
    if rule.k_schedule is not None:
        return "RSRL-b's thresholds"
    values = dict.fromkeys(rule.k or (0.9,))
    return "K = " + " and ".join(f"{value:g}" for value in values)


def resampled(
    trainings: Trainings, *, resamples: int = 2000, seed: int = 0
) -> dict[str, dict[str, np.ndarray]]:
    """Measures of each training on resampled test photos: by cell and measure, (1 + resamples,).

    The first value is that of the photos as they are. A resample draws photos with replacement, the
    same ones for all arms, so that differences are paired.
    """
    predictions = trainings.predictions
    photos = pd.Index(predictions.photo.unique())
    share = np.full(len(photos), 1 / len(photos))
    draws = np.random.default_rng(seed).multinomial(len(photos), share, resamples)
    weights = np.vstack([np.ones(len(photos)), draws])

    scores, rare = trainings.scores, trainings.rare
    found = {}
    for cell, own in predictions.groupby("cell", sort=False):
        pair = (own.truth - scores[0]) * len(scores) + own.assigned - scores[0]
        is_pair = np.zeros((len(own), len(scores) ** 2))
        is_pair[np.arange(len(own)), pair] = 1
        counts = (
            weights[:, photos.get_indexer(own.photo)] @ is_pair
        )  # (1 + resamples, pairs)
        counts = counts.reshape(-1, len(scores), len(scores))
        every = _all_measures(counts, scores, rare)
        found[cell] = {name: every[name] for name in MEASURES}
    return found


def differences(
    trainings: Trainings,
    pairs: Iterable[tuple[str, str]],
    drawn: dict[str, dict[str, np.ndarray]],
    measures: Sequence[str] = tuple(MEASURES),
) -> pd.DataFrame:
    """What each first arm is above each second one: a row per pair and measure.

    `drawn` is what `resampled` returns. A difference is the mean over the `trainings` (same fold,
    same seed) that both arms have. `photos_low` to `photos_high` is its 95 % interval over other
    test photos, `trainings_low` to `trainings_high` over other trainings, with the `p` of the
    latter. Pairs without a shared training are left out.
    """
    cells = trainings.results.set_index(["seed", "fold"])
    rows = []
    for arm, against in pairs:
        ours, theirs = (cells[cells.arm == name].cell for name in (arm, against))
        shared = ours.index.intersection(theirs.index)
        if not len(shared):
            continue
        for measure in measures:
            one, other = (
                np.array([drawn[cell][measure] for cell in own[shared]])
                for own in (ours, theirs)
            )
            place = {
                "arm": arm,
                "against": against,
                "measure": measure,
                "trainings": len(shared),
            }
            rows.append(place | _two_intervals(one, other))
    return pd.DataFrame(rows)


def _two_intervals(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Difference of two arms (trainings, 1 + resamples), in the mean, and how sure it is."""
    gain = np.nanmean(one, axis=0) - np.nanmean(other, axis=0)
    low, high = np.nanpercentile(gain[1:], [2.5, 97.5])
    of_trainings = one[:, 0] - other[:, 0]
    of_trainings = of_trainings[~np.isnan(of_trainings)]
    over_trainings = [np.nan] * 3  # one training says nothing of another
    if len(of_trainings) > 1:
        over_trainings = corrected_interval(
            of_trainings, test_over_train=TEST_OVER_TRAIN
        )[1:]
    names = ("trainings_low", "trainings_high", "p")
    found = {"difference": gain[0], "photos_low": low, "photos_high": high}
    return found | dict(zip(names, over_trainings, strict=True))


def judged(
    differences: pd.DataFrame, together: Sequence[str] = ("measure",)
) -> pd.DataFrame:
    """Differences with what is believable: `better`, `worse` or `undecided`, and `p_holm`.

    A difference is believable where both of its intervals leave 0, and its p stays below .05 after
    Holm's correction for all that are asked `together`. With fewer than three trainings it is `too
    few trainings`.
    """
    p_holm = differences.groupby(list(together)).p.transform(holm)
    sign = np.where(differences.measure.isin(ERRORS), -1, 1)
    bounds = differences[
        ["photos_low", "photos_high", "trainings_low", "trainings_high"]
    ]
    signed = bounds.mul(sign, axis=0)
    sure = p_holm < 0.05
    verdict = np.select(
        [
            differences.trainings < FEWEST_TRAININGS,
            sure & (signed > 0).all(axis=1),
            sure & (signed < 0).all(axis=1),
        ],
        ["too few trainings", "better", "worse"],
        "undecided",
    )
    return differences.assign(p_holm=p_holm, verdict=verdict)


def against(
    trainings: Trainings,
    base: str,
    measures: Sequence[str] = tuple(MEASURES),
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """All other arms against one, as `judged`: p is corrected for as many arms as there are."""
    pairs = [(arm, base) for arm in trainings.results.arm.unique() if arm != base]
    drawn = resampled(trainings, resamples=resamples, seed=seed)
    return judged(differences(trainings, pairs, drawn, measures))


def smallest_visible(differences: pd.DataFrame) -> pd.Series:
    """By measure, how large the largest difference has to be to be believed, as most arms vary.

    It is the median half width of the intervals over trainings, widened by what Holm's correction
    asks of the smallest p.
    """
    found = {}
    for measure, own in differences.groupby("measure", sort=False):
        freedom = own.trainings.max() - 1
        of_one = stats.t.ppf(0.975, freedom)
        of_all = stats.t.ppf(1 - 0.025 / len(own), freedom)
        half = (own.trainings_high - own.trainings_low).median() / 2
        found[measure] = half * of_all / of_one
    return pd.Series(found)


def corrected_interval(
    differences: np.ndarray, *, test_over_train: float
) -> tuple[float, float, float, float]:
    """Mean of differences (cells,) over folds and seeds, its 95 % interval, and p of no difference.

    Cells share photos, so that their spread alone is too narrow an interval: the variance of the
    mean is that of the cells times (1/cells + test/train photos) (Nadeau & Bengio 2003).
    """
    mean, count = float(np.mean(differences)), len(differences)
    error = np.std(differences, ddof=1) * np.sqrt(1 / count + test_over_train)
    if error == 0:
        return mean, mean, mean, float(mean == 0)
    reach = stats.t.ppf(0.975, count - 1) * error
    p = 2 * stats.t.sf(abs(mean) / error, count - 1)
    return mean, mean - reach, mean + reach, float(p)


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values (n,) adjusted for being n comparisons (Holm 1979); NaN, not known, stays so.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, float)
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[p[known].argsort()]
    raised = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1)
    return adjusted

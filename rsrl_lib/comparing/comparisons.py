"""Is one way of training better than another, and is that more than chance?

A sweep trains several arms on the same folds and seeds. Here two arms are compared training by
training, so that what they share (photos, folds, starting weights) cancels. Two intervals surround
each difference: over other test photos, and over other trainings. What an arm does is read from its
recipe, never from its name.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from scipy import stats

from rsrl_lib.comparing.grids import read_grid
from rsrl_lib.comparing.sweeps import read_results
from rsrl_lib.drop_rules import largest_classes, says_nothing_of_k
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
        lowest = both.min()
        highest = both.max()
        return np.arange(lowest, highest + 1)

    @property
    def rare(self) -> np.ndarray:
        """Which of `scores` are not among the three commonest of the test photos."""
        commonest = largest_classes(self.predictions.truth.to_numpy())
        return ~np.isin(self.scores, commonest)


def read_trainings(paths: Iterable[Path]) -> dict[str, Trainings]:
    """Trainings of the tables of some sweeps, by set of photos.

    Raises `InputError` where a table, or the recipes beside it, are not there.
    """
    by_set = {}
    for path in map(Path, paths):
        for trainings in _of_table(path):
            if trainings.name in by_set:
                raise InputError(
                    f"{path} holds {trainings.name!r}, and so does another table; give one."
                )
            by_set[trainings.name] = measured(trainings)
    return by_set


def _of_table(path: Path) -> Iterator[Trainings]:
    """Trainings of one table, by set of photos, their measures as they stand there."""
    if not path.exists():
        raise InputError(f"{path} is no table of a sweep; make it with rsrl sweep.")
    results = read_results(path)
    # A single vote is what was learned; the truth is what all other raters say.
    is_of_truth = (results.target == "crowd") | (results.labels == "mean")
    results = results[is_of_truth]
    predictions = _beside(path, "predictions")
    rounds = _beside(path, "rounds")
    recipes = read_recipes(path.with_suffix(".json"))
    predictions = predictions.assign(truth=_truth(predictions))

    by_set = results.groupby(["dataset", "labels"], sort=False)
    for (dataset, labels), of_set in by_set:
        name = dataset
        if labels == "single_vote":
            name += ", single votes"
        yield Trainings(
            name=name,
            recipes={arm: recipes[dataset, labels, arm] for arm in of_set.arm.unique()},
            results=of_set,
            predictions=predictions[predictions.cell.isin(of_set.cell)],
            rounds=rounds[rounds.cell.isin(of_set.cell)],
        )


def _truth(predictions: pd.DataFrame) -> pd.Series:
    """What each answer is compared with: the crowd's score where there is one, else the label."""
    unknown = pd.Series(np.nan, predictions.index)
    truth = predictions.get("label", unknown)
    if "crowd" in predictions:
        truth = predictions.crowd.fillna(truth)
    return truth.astype(int)


def _beside(path: Path, table: str) -> pd.DataFrame:
    name = f"{path.stem}_{table}.parquet"
    beside = path.with_name(name)
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
    grids = json.loads(path.read_text())["grids"]
    recipes = {}
    with TemporaryDirectory() as folder:
        for name, facts in grids.items():
            grid = Path(folder) / name
            grid.write_text(facts["grid"])
            for cell in read_grid(grid, renamed=facts.get("renamed")):
                recipes[cell.dataset, cell.labels, cell.arm] = cell.recipe
    return recipes


def measured(trainings: Trainings) -> Trainings:
    """The same trainings, their measures counted anew from their answers."""
    cells, counts = confusions(trainings)
    by_measure = _all_measures(counts, trainings.scores, trainings.rare)
    results = trainings.results.set_index("cell")
    for measure, values in by_measure.items():
        results[measure] = pd.Series(values, cells)
    return replace(trainings, results=results.reset_index())


def confusions(trainings: Trainings) -> tuple[pd.Index, np.ndarray]:
    """Confusion matrix of each training: its cells, and counts (cells, labels, assigned)."""
    predictions = trainings.predictions
    scores = trainings.scores
    cell, cells = pd.factorize(predictions.cell)
    truth = predictions.truth - scores[0]
    assigned = predictions.assigned - scores[0]
    counts = np.zeros((len(cells), len(scores), len(scores)))
    np.add.at(counts, (cell, truth, assigned), 1)
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
    predictions = predictions.assign(**both)
    changed = replace(trainings, predictions=predictions)
    return measured(changed), moved


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
    place = ["seed", "fold"]
    arms_there = candidates.groupby(place).arm.transform("nunique")
    shared = candidates[arms_there == len(arms)]
    if len(arms) < 2 or shared.empty:
        return trainings, pd.Series(dtype=str)

    row_of_best = shared.groupby(place).validation_total_f.idxmax()
    best = shared.loc[row_of_best]
    picked = best.set_index(place).arm
    # A cell of the new arm is one of the old: its answers are known already.
    chosen = best.assign(arm=name)
    grown = pd.concat([results, chosen], ignore_index=True)
    return replace(trainings, results=grown), picked


def drops_nothing(recipe: Recipe) -> bool:
    """Whether the drop rule of a recipe has thresholds that no likelihood falls below."""
    rule = recipe.drop
    if rule.keep_share is not None:
        return False
    given = rule.k or rule.k_rounds
    return given is not None and max(given) == 0


def drops_by_likelihood(recipe: Recipe) -> bool:
    """Whether a recipe is one of the papers': it drops photos that the network finds unlikely."""
    return recipe.control == "none" and not drops_nothing(recipe)


def answers_imbalance(recipe: Recipe) -> bool:
    """Whether a recipe resamples, weighs photos, or takes another loss, and drops nothing."""
    if recipe.control in FOLLOWING or recipe.control == "confident-learning":
        return False
    a, b = recipe.weights_ab
    return recipe.control != "none" or a != b


def trains_on(recipe: Recipe) -> bool:
    """Whether a recipe changes nothing but that training goes on."""
    a, b = recipe.weights_ab
    is_plain = recipe.control == "none" and a == b
    divides_once = recipe.resplit == "never"
    return is_plain and divides_once and drops_nothing(recipe)


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
    longest = _most_rounds(recipes)
    plain = []
    for arm, recipe in recipes.items():
        if trains_on(recipe) and recipe.rounds == longest:
            plain.append(arm)
    if len(plain) == 1:
        return plain[0]
    reason = f"{len(plain)} of them do that" if plain else "none does"
    raise InputError(
        f"One arm of {trainings.name} has to train on without dropping (k = [0.0], as many rounds "
        f"as the others), {reason}; found are {arms}. Name the one to compare with as `base`."
    )


def _most_rounds(recipes: dict[str, Recipe]) -> int:
    return max(recipe.rounds for recipe in recipes.values())


def arms_in_question(trainings: Trainings, base: str = "") -> dict[str, str]:
    """The arms that tell whether dropping helps, by what they do; those that a sweep has of five.

    Of several that drop by a rule it is the one whose threshold is fitted to a share to keep. At
    random drops the arm that follows that of RSRL's rule, where there is one.
    """
    recipes = trainings.recipes
    by_own_class = _arm_of_rule(recipes, "own-class")
    by_top_class = _arm_of_rule(recipes, "top-class")
    followed = recipes[by_own_class].drop if by_own_class else None
    at_random = _first_arm(
        recipes,
        fits=lambda recipe: recipe.control == "random-drop",
        preferred=lambda recipe: recipe.drop == followed,
    )
    balanced = _first_arm(
        recipes,
        fits=lambda recipe: recipe.control == "class-balanced",
        preferred=lambda _: True,
    )
    trained_on = base_arm(trainings, base)
    arms = (trained_on, by_own_class, by_top_class, at_random, balanced)
    by_method = zip(FIVE_ARMS, arms, strict=True)
    return {method: arm for method, arm in by_method if arm}


def _arm_of_rule(recipes: dict[str, Recipe], rule: str) -> str | None:
    return _first_arm(
        recipes,
        fits=lambda recipe: drops_by_likelihood(recipe) and recipe.drop.rule == rule,
        preferred=lambda recipe: recipe.drop.keep_share is not None,
    )


def _first_arm(
    recipes: dict[str, Recipe],
    fits: Callable[[Recipe], bool],
    preferred: Callable[[Recipe], bool],
) -> str | None:
    """The first arm that `fits` and is `preferred`, else the first that `fits`, if one does."""
    arms = [arm for arm, recipe in recipes.items() if fits(recipe)]
    return min(arms, key=lambda arm: not preferred(recipes[arm]), default=None)


def most_telling(
    sets: dict[str, Trainings], base: str = ""
) -> dict[str, dict[str, str]]:
    """`arms_in_question` of the sets that have most of the five arms.

    Raises `InputError` where no set has an arm to compare with.
    """
    arms_of = {}
    errors = []
    for name, trainings in sets.items():
        try:
            arms_of[name] = arms_in_question(trainings, base)
        except InputError as error:
            errors.append(error)
    if not arms_of:
        raise errors[0]
    counts = [len(arms) for arms in arms_of.values()]
    most = max(counts)
    return {name: arms for name, arms in arms_of.items() if len(arms) == most}


def arm_names(recipes: dict[str, Recipe]) -> dict[str, str]:
    """Each arm's method in words, told from its recipe; the arm's own name where two are alike."""
    longest = _most_rounds(recipes)
    names = {arm: in_words(recipe, longest) for arm, recipe in recipes.items()}
    is_alike = pd.Series(names).duplicated(keep=False)
    for arm in names:
        if is_alike[arm]:
            names[arm] += f" ({arm})"
    return names


def in_words(recipe: Recipe, longest: int) -> str:
    """The method of a recipe; one that drops nothing trains on, unless it ends before `longest`."""
    if recipe.control in CONTROLS:
        return CONTROLS[recipe.control]
    if trains_on(recipe):
        return "training on" if recipe.rounds == longest else "the first network"
    if drops_nothing(recipe):
        a, b = recipe.weights_ab
        return f"ambiguous photos weighted {a:g}:{b:g}"
    rule = RULES[recipe.drop.rule]
    threshold = _threshold_in_words(recipe)
    template = FOLLOWING.get(recipe.control, "{}")
    return template.format(f"{rule}, {threshold}")


def _threshold_in_words(recipe: Recipe) -> str:
    rule = recipe.drop
    if rule.keep_share is not None:
        return f"{100 * rule.keep_share:.0f} % kept"
    if says_nothing_of_k(rule):
        return "about two thirds kept"
    if rule.k_rounds is not None:
        *before, last = (f"{k:g}" for k in rule.k_rounds)
        return "K = " + (f"{', '.join(before)} then {last}" if before else last)
    different = dict.fromkeys(rule.k)
    return "K = " + " and ".join(f"{k:g}" for k in different)


def resampled(
    trainings: Trainings, *, resamples: int = 2000, seed: int = 0
) -> dict[str, dict[str, np.ndarray]]:
    """Measures of each training on resampled test photos: by cell and measure, (1 + resamples,).

    The first value is that of the photos as they are. A resample draws photos with replacement, the
    same ones for all arms, so that differences are paired.
    """
    predictions = trainings.predictions
    photos = pd.Index(predictions.photo.unique())
    as_they_are = np.ones(len(photos))
    alike = np.full(len(photos), 1 / len(photos))
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(photos), alike, resamples)
    weights = np.vstack([as_they_are, draws])

    scores = trainings.scores
    rare = trainings.rare
    by_cell = {}
    for cell, answers in predictions.groupby("cell", sort=False):
        times_drawn = weights[:, photos.get_indexer(answers.photo)]
        counts = times_drawn @ _is_pair(answers, scores)  # (1 + resamples, pairs)
        counts = counts.reshape(-1, len(scores), len(scores))
        every = _all_measures(counts, scores, rare)
        by_cell[cell] = {measure: every[measure] for measure in MEASURES}
    return by_cell


def _is_pair(answers: pd.DataFrame, scores: np.ndarray) -> np.ndarray:
    """1 at each answer's pair of truth and assigned score: (answers, scores * scores)."""
    truth = answers.truth - scores[0]
    assigned = answers.assigned - scores[0]
    pair = truth * len(scores) + assigned
    is_pair = np.zeros((len(answers), len(scores) ** 2))
    is_pair[np.arange(len(answers)), pair] = 1
    return is_pair


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
        ours = cells[cells.arm == arm].cell
        theirs = cells[cells.arm == against].cell
        shared = ours.index.intersection(theirs.index)
        if not len(shared):
            continue
        for measure in measures:
            one = np.array([drawn[cell][measure] for cell in ours[shared]])
            other = np.array([drawn[cell][measure] for cell in theirs[shared]])
            row = {
                "arm": arm,
                "against": against,
                "measure": measure,
                "trainings": len(shared),
            }
            rows.append(row | _two_intervals(one, other))
    return pd.DataFrame(rows)


def _two_intervals(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Difference of two arms (trainings, 1 + resamples), in the mean, and how sure it is."""
    gain = np.nanmean(one, axis=0) - np.nanmean(other, axis=0)
    photos_low, photos_high = np.nanpercentile(gain[1:], [2.5, 97.5])
    by_training = one[:, 0] - other[:, 0]
    by_training = by_training[~np.isnan(by_training)]
    interval = [np.nan] * 3  # one training says nothing of another
    if len(by_training) > 1:
        _, *interval = corrected_interval(by_training, test_over_train=TEST_OVER_TRAIN)
    trainings_low, trainings_high, p = interval
    return {
        "difference": gain[0],
        "photos_low": photos_low,
        "photos_high": photos_high,
        "trainings_low": trainings_low,
        "trainings_high": trainings_high,
        "p": p,
    }


def judged(
    differences: pd.DataFrame, together: Sequence[str] = ("measure",)
) -> pd.DataFrame:
    """Differences with what is believable: `better`, `worse` or `undecided`, and `p_holm`.

    A difference is believable where both of its intervals leave 0, and its p stays below .05 after
    Holm's correction for all that are asked `together`. With fewer than three trainings it is `too
    few trainings`.
    """
    p_holm = differences.groupby(list(together)).p.transform(holm)
    is_sure = p_holm < 0.05
    sign = np.where(differences.measure.isin(ERRORS), -1, 1)
    bounds = differences[
        ["photos_low", "photos_high", "trainings_low", "trainings_high"]
    ]
    signed = bounds.mul(sign, axis=0)
    is_few = differences.trainings < FEWEST_TRAININGS
    is_better = is_sure & (signed > 0).all(axis=1)
    is_worse = is_sure & (signed < 0).all(axis=1)
    verdict = np.select(
        [is_few, is_better, is_worse],
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
    arms = trainings.results.arm.unique()
    pairs = [(arm, base) for arm in arms if arm != base]
    drawn = resampled(trainings, resamples=resamples, seed=seed)
    compared = differences(trainings, pairs, drawn, measures)
    return judged(compared)


def smallest_visible(differences: pd.DataFrame) -> pd.Series:
    """By measure, how large the largest difference has to be to be believed, as most arms vary.

    It is the median half width of the intervals over trainings, widened by what Holm's correction
    asks of the smallest p.
    """
    smallest = {}
    for measure, of_measure in differences.groupby("measure", sort=False):
        arms = len(of_measure)
        freedom = of_measure.trainings.max() - 1
        reach_of_one = stats.t.ppf(0.975, freedom)
        reach_of_all = stats.t.ppf(1 - 0.025 / arms, freedom)
        widths = of_measure.trainings_high - of_measure.trainings_low
        half_width = widths.median() / 2
        smallest[measure] = half_width * reach_of_all / reach_of_one
    return pd.Series(smallest)


def corrected_interval(
    differences: np.ndarray, *, test_over_train: float
) -> tuple[float, float, float, float]:
    """Mean of differences (cells,) over folds and seeds, its 95 % interval, and p of no difference.

    Cells share photos, so that their spread alone is too narrow an interval: the variance of the
    mean is that of the cells times (1/cells + test/train photos) (Nadeau & Bengio 2003).
    """
    cells = len(differences)
    mean = float(np.mean(differences))
    spread = np.std(differences, ddof=1)
    error = spread * np.sqrt(1 / cells + test_over_train)
    if error == 0:
        return mean, mean, mean, float(mean == 0)
    freedom = cells - 1
    t = abs(mean) / error
    p = 2 * stats.t.sf(t, freedom)
    reach = stats.t.ppf(0.975, freedom) * error
    low = mean - reach
    high = mean + reach
    return mean, low, high, float(p)


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values (n,) adjusted for being n comparisons (Holm 1979); NaN, not known, stays so.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, float)
    adjusted = np.full(len(p), np.nan)
    compared = np.flatnonzero(~np.isnan(p))
    ascending = compared[p[compared].argsort()]
    not_yet_rejected = np.arange(len(ascending), 0, -1)
    raised = p[ascending] * not_yet_rejected
    never_falling = np.maximum.accumulate(raised)
    adjusted[ascending] = np.minimum(never_falling, 1)
    return adjusted

"""A run on the disk, as it is read: its tables, its networks, and how these look at photos.

run.json              recipe, seed, versions, device, where the photos were read, fingerprint of
                      photos and scores, and notices: sentences for whoever runs it
split.csv             photo, score, label (a rare score merged into its neighbour), part,
                      digest of the file and, where it is given, group
near_duplicates.csv, near_duplicates.png
                      photos that were kept together as they look alike, where that is asked for
rounds.csv            one row per round: photos kept, rescued, K (as likelihood and as logit),
                      loss, measures, chosen
per_class.csv         one row per round, part and score; confusion.csv beside it
samples.parquet       one row per round and photo: assigned score, expected score and its spread;
                      logit and likelihood of the assigned, own and top score; logit of every
                      score; kept
dropped.csv           one row per training photo that a later round found below K, left out,
                      rescued or took back: its likelihood then, and K
attributes.csv        one row per learned attribute: how well the chosen network tells it
conv1.safetensors     round_01.weight, round_01.bias (where conv1 has one), ...
network_best.safetensors, network_last.safetensors
                      networks of the chosen and the last round, and how each decides
network_01.safetensors, ...
                      those that judge together with these two, where several do
half_0_….safetensors, half_1_…   networks that judge a half, each trained on the other one,
                          where a control needs them
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from scipy.special import logit as logit_of

from rsrl_lib.backbones import Body
from rsrl_lib.deciding import DecisionRule, read_rule
from rsrl_lib.drop_rules import THRESHOLDS
from rsrl_lib.dropped import derived
from rsrl_lib.files import InputError, reading
from rsrl_lib.network import AestheticNet, facts_of, load_network, side_of_network
from rsrl_lib.origins import open_photos
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.pixels import Pixels
from rsrl_lib.reading.tables import read_ours
from rsrl_lib.recipe import Recipe, Training, flattened, recipe_from, view_of
from rsrl_lib.training import judged_together, logits_of_all_nodes

PART_OF_A_RUN = ("part of a run", "train the run anew")


@dataclass(frozen=True)
class Run:
    """A run on disk; its tables are read when asked for."""

    folder: Path

    def _read(self, name: str, reader: Callable):
        path = self.folder / name
        with reading(path, *PART_OF_A_RUN):
            return reader(path)

    def _table(self, name: str) -> pd.DataFrame:
        return self._read(name, read_ours)

    @property
    def best(self) -> Path:
        """The file of the chosen round's network."""
        return self.folder / "network_best.safetensors"

    @property
    def last(self) -> Path:
        """The last network's file, which is written after all others of its round."""
        return self.folder / "network_last.safetensors"

    @property
    def has_begun(self) -> bool:
        """Whether there is a finished round. Before, there is nothing to lose, and a corrected
        recipe may follow."""
        return self.last.exists()

    @property
    def info(self) -> dict:
        return self._read("run.json", _described)

    @property
    def recipe(self) -> Recipe:
        """What the run does; of a run of before, what came since is as by default."""
        with reading(self.folder / "run.json", *PART_OF_A_RUN):
            return recipe_from(flattened(self.info["recipe"]))

    def photos(self) -> ScoredPhotos:
        """The run's photos, read again where they were; `InputError` where that is not known."""
        origin = self.info.get("photos")  # runs of before have none
        if origin is None:
            raise InputError(
                f"{self.folder / 'run.json'} does not say where its photos lie; give their folder "
                "and their scores."
            )
        with reading(self.folder / "run.json", *PART_OF_A_RUN):
            scored = open_photos(origin)
        return self.own_photos(scored)

    def own_photos(self, scored: ScoredPhotos) -> ScoredPhotos:
        """Those of some scored photos that the run has; `InputError` where it has others."""
        names = self.split.photo
        missing = names[~names.isin(scored.table.photo)]
        if len(missing):
            raise InputError(
                f"The run {self.folder} has {len(missing)} photos that are not among the "
                f"{len(scored)} given (first: {missing.iloc[0]}); give its own photos and scores."
            )
        return scored.select(scored.table.photo.isin(names))

    def other_photos(self) -> pd.DataFrame | None:
        """The unscored photos of another source that it judges (photo, path); None without them.

        Raises `InputError` where the run does not say where they lie.
        """
        samples = self.samples
        names = samples.photo[(samples.part == "other") & (samples["round"] == 1)]
        if names.empty:
            return None
        folder = self.info.get("other")  # runs of before have none
        if folder is None:
            raise InputError(
                f"{self.folder / 'run.json'} does not say where the photos of another source lie; "
                "give their folder."
            )
        table = pd.DataFrame({"photo": names.to_numpy()})
        return table.assign(path=f"{folder}/" + table.photo)

    @property
    def merged_scores(self) -> dict[int, int]:
        """From each score that was merged to the label that its photos carry."""
        merged = self.info["merged_scores"]
        return {int(score): label for score, label in merged.items()}

    @property
    def view(self) -> dict[str, object]:
        """How the networks of the run look at photos, as `Recipe.view` says it.

        Whatever shows them a photo takes it from here: likelihoods, maps, highlights and crops.
        """
        with reading(self.folder / "run.json", *PART_OF_A_RUN):
            settings = self.info["recipe"]
            tune = settings.get("tune", "all")  # runs of before have none
            try:
                view = view_of(tune, Training(**settings["training"]))
            except InputError as error:
                # It does not say that it is the file's setting.
                raise ValueError(error) from error
            side = view["shrink_to"]
            if side is not None and (type(side) is not int or side > 1024):
                raise ValueError(f"crops of {side} pixels")
        return view

    @property
    def split(self) -> pd.DataFrame:
        return self._table("split.csv")

    @property
    def shown_part(self) -> Literal["test", "train"]:
        """The part whose photos are shown and measured: the test photos, or the training photos of
        a run that holds out none."""
        has_test = (self.split.part == "test").any()
        return "test" if has_test else "train"

    @property
    def rounds(self) -> pd.DataFrame:
        return self._table("rounds.csv")

    @property
    def per_class(self) -> pd.DataFrame:
        return self._table("per_class.csv")

    @property
    def confusion(self) -> pd.DataFrame:
        return self._table("confusion.csv")

    @property
    def samples(self) -> pd.DataFrame:
        samples = self._read("samples.parquet", pd.read_parquet)
        return _with_logits(samples)

    @property
    def dropped(self) -> pd.DataFrame:
        """What was said of photos below K; of runs of before as far as other tables tell it."""
        if (self.folder / "dropped.csv").exists():
            return self._table("dropped.csv")
        with reading(self.folder, *PART_OF_A_RUN):
            return derived(self.samples, self.rounds, self.split, self.info["recipe"])

    @property
    def attributes(self) -> pd.DataFrame | None:
        """How well the chosen network tells the attributes; None where it learned none."""
        if not (self.folder / "attributes.csv").exists():
            return None
        return self._table("attributes.csv")

    @property
    def chosen(self) -> int:
        """Number of the chosen round."""
        by_round = self.rounds.set_index("round")
        return int(by_round.chosen.idxmax())

    @property
    def side(self) -> int:
        """Side in pixels of the decoded photos that its networks look at."""
        return side_of_network(self.last)

    def network(
        self, which: Literal["best", "last"] = "best", *, body: Body | None = None
    ) -> AestheticNet:
        """The chosen network or the last; of a module of your own, `body` has to give it."""
        path = self.best if which == "best" else self.last
        network, _ = load_network(path, body=body)
        return network

    def network_of(self, i: int) -> Path:
        """Where the network of round `i` lies, while it judges together with others."""
        return self.folder / f"network_{i:02d}.safetensors"

    def half_of(self, n: int, i: int) -> Path:
        """Where the network lies that judges half `n`, 0 or 1, after round `i`, while it does."""
        return self.folder / f"half_{n}_{i}.safetensors"

    def networks_of_rounds(self) -> list[Path]:
        """The files of `network_of` and `half_of` that are there."""
        names = ("network_[0-9]*.safetensors", "half_?_*.safetensors")
        return [path for name in names for path in self.folder.glob(name)]

    def judges(self, *, body: Body | None = None) -> "Judges":
        """Who judges photos for this run, `body` as for `network`; `InputError` where one of them
        is not there."""
        average = self.info["recipe"].get("average", 1)  # runs of before have none
        chosen, facts = load_network(self.best, body=body)
        networks = [chosen]
        if average > 1:
            with reading(self.best, *PART_OF_A_RUN):
                number = int(facts["round"])
            for i in range(max(1, number - average + 1), number):
                path = self.network_of(i)
                _check_judges(path, average)
                network, _ = load_network(path, body=body)
                networks.append(network)
        return Judges(networks, self.view, self.decision)

    @property
    def decision(self) -> DecisionRule:
        """How the logits of the networks that judge in the chosen round become scores."""
        facts = facts_of(self.best)
        with reading(self.best, *PART_OF_A_RUN):
            scores = tuple(map(int, facts["scores"].split()))
            if "decision" not in facts:  # runs of before took the largest
                return DecisionRule(scores)
            rule = read_rule(facts["decision"])
            if rule.scores != scores:
                raise ValueError("the decision is of other scores than the network")
            return rule

    def conv1(self) -> dict[str, torch.Tensor]:
        return self._read("conv1.safetensors", load_file)


def _described(path: Path) -> dict:
    """What run.json says, in today's words."""
    info = json.loads(path.read_text())
    drop = info["recipe"]["drop"]
    if drop.pop("k_schedule", None) == "rsrl-b":  # the name of before
        drop["k_rounds"] = [0.9, 0.95]
    # What it was where nothing was said; today it is written down.
    if all(drop.get(threshold) is None for threshold in THRESHOLDS):
        drop["k"] = [0.9]
    return info


def _check_judges(path: Path, average: int) -> None:
    if not path.exists():
        raise InputError(
            f"{path} is needed and not there, as networks of {average} rounds judge together; "
            "copy the whole folder of the run."
        )


@dataclass(frozen=True)
class Judges:
    """Who judges photos for a run, how they look at them, and how a score is decided."""

    networks: list[AestheticNet]
    """That of the chosen round, and those that judge together with it."""
    view: dict[str, object]
    rule: DecisionRule

    @property
    def chosen(self) -> AestheticNet:
        return self.networks[0]

    def logits(
        self, pixels: Pixels, *, attributes: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits (n, levels) of photos by the chosen network, and those of all together, by which
        the rule decides; with `attributes` the former have those of the attributes behind them."""
        of_nodes = [
            logits_of_all_nodes(network, pixels, **self.view)
            for network in self.networks
        ]
        levels = len(self.chosen.levels)
        of_levels = [of_network[:, :levels] for of_network in of_nodes]
        own = of_nodes[0] if attributes else of_levels[0]
        return own, judged_together(of_levels)


def open_run(folder: Path) -> Run:
    """A run that has at least one finished round; `InputError` where there is none."""
    path = Path(folder)
    if not path.is_dir():
        what = "is a file" if path.exists() else "is not there"
        raise InputError(
            f"{folder} {what}; give the folder of a run, as rsrl train makes one."
        )
    run = Run(path)
    if (path / "fold_0").is_dir():
        raise InputError(
            f"{folder} holds a run for each fold; give one of them, such as {path / 'fold_0'}."
        )
    if not run.has_begun:
        raise InputError(
            f"{folder} holds no run with a finished round; make one with rsrl train."
        )
    return run


def check_folder(folder: Path) -> None:
    """`InputError` where a folder holds other files and no run."""
    paths = folder.iterdir() if folder.exists() else ()
    has_files = any(path.suffix not in (".partial", ".lock") for path in paths)
    if has_files and not (folder / "run.json").exists():
        raise InputError(
            f"{folder} holds other files and no run; give a new or empty folder."
        )


def _with_logits(samples: pd.DataFrame) -> pd.DataFrame:
    """Samples with the logits that runs of before lack, made of their likelihoods.

    Likelihoods are float32, so that all logits above about 17 come out alike, as infinite: such a
    run is read and goes on, but photos that it held for equally likely stay so.
    """
    for name in ("assigned", "own", "top"):
        if f"{name}_logit" not in samples:
            likelihood = samples[f"{name}_likelihood"].astype(np.float64)
            samples[f"{name}_logit"] = logit_of(likelihood)
    return samples

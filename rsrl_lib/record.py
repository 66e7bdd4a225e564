"""What a run writes of its rounds, so that one that was killed goes on as if it had not been.

`network_last` is written last and names its round: a killed run goes on after that round and cuts
the tables back to it. Optimisers start anew each round and every random draw of a round comes
from (seed, round), so no other state is needed and tables and weights end up identical on one
processor. A finished run that is asked for more rounds goes on in the same way.

A round that takes longer than a few writes is written at once. Shorter ones, such as those of a
head on known features, wait for others in memory: a kill loses the seconds since the last write.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from rsrl_lib.backbones import Body
from rsrl_lib.dataset import Dataset
from rsrl_lib.deciding import DecisionRule
from rsrl_lib.dropped import NOTHING, joined
from rsrl_lib.duplicates import contact_sheet, table_of
from rsrl_lib.files import InputError, reading, replacing
from rsrl_lib.machine import machine
from rsrl_lib.measures import of_parts
from rsrl_lib.network import AestheticNet, Snapshot, load_network, snapshot
from rsrl_lib.papers import deviations
from rsrl_lib.photos import PARTS
from rsrl_lib.provenance import gone_on
from rsrl_lib.recipe import Choose, Recipe, flattened
from rsrl_lib.runs import PART_OF_A_RUN, Run

TABLES = ("rounds", "per_class", "confusion", "samples", "dropped")
ENDING = ("rounds", "stop", "loss_threshold", "patience")
"""Settings that say when a run ends and change no round; a run can be given others."""
SHARE_OF_WRITING = 0.1
"""Of the time that rounds take, which writing them takes at most, but for the first and the last
write."""


class Record:
    """Tables and networks of a run after its last finished round; every round adds to them.

    Of several processes that train one network together, one `writes`. `body` is that of its
    networks, where it is a module of your own; `on_round` is called when a round is done. Used as a
    context, it ends with all rounds on the disk, also where one of them fails.
    """

    def __init__(
        self,
        run: Run,
        *,
        writes: bool = True,
        body: Body | None = None,
        on_round: Callable[[int], object] = lambda i: None,
    ):
        self.run = run
        self.on_round = on_round
        self.writes = writes
        self.body = body
        self.tables = {name: pd.DataFrame() for name in TABLES}
        self.tables["dropped"] = NOTHING
        # Of the round after which a run goes on; none in a new run.
        self.network: AestheticNet | None = None
        self.halves: list[AestheticNet] = []
        self.conv1: dict[str, torch.Tensor] = {}
        # What is to be on the disk after the last round, and is not yet.
        self.unsaved: dict[Path, Snapshot] = {}
        self.needed: set[Path] = set()
        self.written_at = 0.0
        self.seconds_to_write = 0.0
        if run.has_begun:
            self._resume()

    def __enter__(self) -> "Record":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.unsaved:
            self._write()

    @property
    def rounds(self) -> pd.DataFrame:
        """One row for each finished round."""
        return self.tables["rounds"]

    @property
    def dropped(self) -> pd.DataFrame:
        """What was said of photos below K before the finished rounds, see `dropped`."""
        return self.tables["dropped"]

    @property
    def last_samples(self) -> pd.DataFrame:
        """What the last network says of every photo."""
        samples = self.tables["samples"]
        is_last = samples["round"] == len(self.rounds)
        return samples[is_last]

    def last_logits(self, count: int, scores: list[int]) -> list[np.ndarray]:
        """Logits (n, scores) of all photos, by each of the last `count` networks, or of fewer."""
        done = len(self.rounds)
        samples = self.tables["samples"]
        of_rounds = []
        for i in range(max(1, done - count + 1), done + 1):
            of_round = samples[samples["round"] == i]
            of_rounds.append(
                of_round[[f"logit_{score}" for score in scores]].to_numpy()
            )
        return of_rounds

    def _resume(self) -> None:
        """Read what the last network's round left behind, and nothing later."""
        self.network, facts = load_network(self.run.last, body=self.body)
        tables = {name: getattr(self.run, name) for name in TABLES}
        with reading(self.run.folder, *PART_OF_A_RUN):
            done = int(facts["round"])
            for name, table in tables.items():
                is_done = table["round"] <= done
                self.tables[name] = table[is_done].reset_index(drop=True)
        self.conv1 = self.run.conv1()
        for path in (self.run.half_of(0, done), self.run.half_of(1, done)):
            if path.exists():
                half, _ = load_network(path, body=self.body)
                self.halves.append(half)

    def knows(self, recipe: Recipe) -> bool:
        """Whether the run has begun and is described by this recipe, its end included."""
        if not self.run.has_begun:
            return False
        return self.run.info["recipe"] == described(recipe)

    def describe(
        self,
        recipe: Recipe,
        data: Dataset,
        notices: list[str],
        made: dict[str, object],
    ) -> None:
        """Make the folder the run's own, `made` as `provenance` says; of a run that goes on, only
        end and notices change."""
        has_begun = self.run.has_begun
        if has_begun:
            info = self.run.info
            if "provenance" in info:  # runs of before have none
                info = info | {"provenance": gone_on(info["provenance"])}
            info = info | {
                "recipe": described(recipe),
                "deviations": deviations(recipe),
                "notices": notices,
                "rater": data.rater,
            }
        else:
            info = {
                "recipe": described(recipe),
                "photos": data.origin,
                "other": data.folder_of_other,
                "fingerprint": data.fingerprint,
                "merged_scores": data.merged_scores,
                "deviations": deviations(recipe),
                "notices": notices,
                "rater": data.rater,
                **machine(recipe.training.precision),
                "provenance": made,
            }
        with replacing(self.run.folder / "run.json") as partial:
            partial.write_text(json.dumps(info, indent=1))
        if not has_begun:
            with replacing(self.run.folder / "split.csv") as partial:
                data.table.to_csv(partial, index=False)
            if data.near is not None:
                self._show_near_duplicates(data)

    def _show_near_duplicates(self, data: Dataset) -> None:
        """Which photos were kept together as they look alike: a table and, if any, a picture."""
        with replacing(self.run.folder / "near_duplicates.csv") as partial:
            table_of(data.near, data.table).to_csv(partial, index=False)
        if len(data.near.sizes):
            sheet = contact_sheet(data.near, data.table, data.pixels.array)
            with replacing(self.run.folder / "near_duplicates.png") as partial:
                sheet.save(partial, "PNG")

    def add(
        self,
        facts: dict[str, object],
        samples: pd.DataFrame,
        dropped: pd.DataFrame,
        networks: list[AestheticNet],
        rule: DecisionRule,
        recipe: Recipe,
    ) -> None:
        """Add a round: `facts` of it, what its network says of all photos and by which `rule`,
        and which photos it did without.

        Of `networks` the first is the round's own, others are those of halves. Of the rounds so
        far the one is chosen that the recipe says.
        """
        i = len(self.rounds) + 1
        network = networks[0]
        news = of_parts(samples, network.scores, PARTS)
        row = pd.DataFrame([{"round": i, **facts}])
        news["rounds"] = pd.concat([row, news["rounds"]], axis=1)
        news["samples"] = samples
        tables = {"dropped": joined(self.dropped, dropped)}
        for name, table in news.items():
            added = table.assign(round=i)
            tables[name] = pd.concat([self.tables[name], added], ignore_index=True)
        best = chosen_of(tables["rounds"], recipe.choose)
        tables["rounds"]["chosen"] = np.arange(1, i + 1) == best
        self.tables = tables
        if self.writes:
            self._hold(i, networks, rule, recipe, best)
            waited = time.perf_counter() - self.written_at
            if waited * SHARE_OF_WRITING >= self.seconds_to_write:
                self._write()
        self.on_round(i)

    def _hold(
        self,
        i: int,
        networks: list[AestheticNet],
        rule: DecisionRule,
        recipe: Recipe,
        best: int,
    ) -> None:
        """Keep the networks of round `i` as they are now, and no longer those of before that are
        needed no more; `best` is the chosen round so far."""
        run = self.run
        average = recipe.average
        network, *halves = networks
        body_stays = recipe.tune == "head"
        facts = {"round": i, "decision": rule.as_text()}
        now = snapshot(network, body_stays=body_stays, **facts)
        news = {}
        if average > 1:
            news[run.network_of(i)] = now
        if best == i:
            news[run.best] = now
        for n, half in enumerate(halves):
            news[run.half_of(n, i)] = snapshot(half, body_stays=body_stays)

        self.needed = {run.best, *news}
        if average > 1:
            judges_last = range(i - average + 1, i + 1)
            judges_best = range(best - average + 1, best + 1)
            self.needed |= {run.network_of(j) for j in (*judges_last, *judges_best)}
        self.unsaved = {
            path: shot
            for path, shot in (self.unsaved | news).items()
            if path in self.needed
        }
        self.unsaved[run.last] = now  # at the end, as it is written last

        if network.conv1 is not None:
            for name, values in network.conv1.named_parameters():
                values = values.detach().cpu()
                self.conv1[f"round_{i:02d}.{name}"] = values.contiguous().clone()

    def _write(self) -> None:
        """Write all rounds so far, and remove the networks that are needed no more."""
        begun = time.perf_counter()
        # Where one file fails, the others of these rounds are not tried again.
        unsaved, self.unsaved = self.unsaved, {}
        self._save_tables()
        with replacing(self.run.folder / "conv1.safetensors") as partial:
            save_file(self.conv1, partial)
        for path, shot in unsaved.items():
            shot.save(path)
        for path in self.run.networks_of_rounds():
            if path not in self.needed:
                path.unlink()
        self.written_at = time.perf_counter()
        self.seconds_to_write = self.written_at - begun

    def _save_tables(self) -> None:
        folder = self.run.folder
        for name in ("rounds", "per_class", "confusion", "dropped"):
            with replacing(folder / f"{name}.csv") as partial:
                self.tables[name].to_csv(partial, index=False)
        with replacing(folder / "samples.parquet") as partial:
            self.tables["samples"].to_parquet(partial, index=False)


def chosen_of(rounds: pd.DataFrame, choose: Choose) -> int:
    """Number of the round that is chosen of some; of equally good ones the first."""
    if choose == "last":
        return len(rounds)
    if choose == "loss":
        return int(rounds.train_quadratic_loss.argmin()) + 1
    return int(rounds[f"{choose}_total_f"].argmax()) + 1


def described(recipe: Recipe) -> dict:
    """The recipe as it stands in run.json."""
    written = json.dumps(asdict(recipe))
    return json.loads(written)


def check_same(run: Run, recipe: Recipe, data: Dataset) -> None:
    """`InputError` where the folder holds a run of another recipe, photos or scores."""
    info = run.info
    then = flattened(described(Recipe()))  # runs of before lack what came since
    then |= flattened(info["recipe"])
    now = flattened(described(recipe))
    changes = []
    for name, value in now.items():
        if name not in ENDING and then.get(name) != value:
            changes.append(f"{name} {then.get(name)} there and {value} now")
    if changes:
        raise InputError(
            f"{run.folder} holds a run of another recipe ({', '.join(changes)}); give another "
            "--run folder, or the recipe it was made with."
        )

    different = []
    # Of given parts and groups there is one only where there are any.
    for name in info["fingerprint"] | data.fingerprint:
        if info["fingerprint"].get(name) != data.fingerprint.get(name):
            different.append(name)
    if different:
        changed = " and ".join(different) + _named(_changed_photos(run, data))
        raise InputError(
            f"{run.folder} holds a run with different {changed}; give another "
            "--run folder, or those it was made with."
        )


def _changed_photos(run: Run, data: Dataset) -> list[str]:
    """Names of the photos whose score or file differs between a run and today's photos."""
    columns = ["photo", "score", "digest"]
    then = run.split[columns]
    now = data.table[columns]
    both = pd.concat([then, now])
    changed = both.drop_duplicates(keep=False)
    return changed.photo.unique().tolist()


def _named(photos: list[str]) -> str:
    if not photos:
        return ""
    return f" ({len(photos)} photos, first: {photos[0]})"

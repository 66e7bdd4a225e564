"""How can one method be reported with a test accuracy of .45 and of .90?

    .venv/bin/rsrl fetch oasis --out data/oasis
    .venv/bin/python studies/two_accuracies.py --jobs 2

Trains `two_accuracies.toml` (networks that train on, and networks that drop by RSRL-b's schedule,
by RSRL-a's K and with two thirds kept, each on photos divided once, anew in every round, and in
rotation) and writes `data/results/two_accuracies.csv`: a row per cell and round with the accuracies
that could be reported of it (`rsrl_lib.protocols.reported`, reported photos dropped by RSRL-b's
schedule) beside that on photos nobody touched. The grid, versions and machines go to a JSON there.
"""

import shutil
from pathlib import Path

import tyro

from rsrl_lib.comparing.sweeps import reported_accuracies, sweep
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.files import ROOT, replacing


def main(
    grid: Path = Path("studies/two_accuracies.toml"),
    work: Path = Path("data/sweeps/two_accuracies.csv"),
    out: Path = ROOT / "data" / "results" / "two_accuracies.csv",
    jobs: int | None = None,
) -> None:
    """Train and write the table.

    Args:
        grid: TOML file of the arms.
        work: Table and runs of the sweep; the same command goes on with it.
        out: Table to write.
        jobs: Cells trained at once.
    """
    sweep(grid, work, jobs=jobs)
    table = reported_accuracies(grid, work, DropRule(k_rounds=(0.9, 0.95)))
    with replacing(out) as partial:
        table.to_csv(partial, index=False, float_format="%.5f")
    shutil.copy(work.with_suffix(".json"), out.with_suffix(".json"))
    last = table[table["round"] == table["round"].max()]
    shown = ["held_out", "held_out_kept", "share_kept", "original", "untouched", "majority"]
    means = last.groupby(["dataset", "arm"], sort=False)[shown].mean()
    print(f"After round {table['round'].max()}:")
    print(means.to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    tyro.cli(main)

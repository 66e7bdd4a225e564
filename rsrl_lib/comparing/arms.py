"""The arms that stand in the tables of a sweep: listed, given another name, or taken out.

A cell bears the name of its arm in its row, in its folder and in its id, so all three change
together. Whatever ends this in between leaves tables that hold every cell whole: rows of both names
stand in the other tables until the table of results has the new one.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from rsrl_lib.comparing.grids import KEYS, check_arm, read_grid
from rsrl_lib.comparing.sweeps import (
    DONE,
    TABLES,
    beside_table,
    folder_at,
    read_results,
    write_results,
)
from rsrl_lib.files import InputError, locked, reading, replacing


def arms_of(out: Path) -> pd.DataFrame:
    """Arms of a table of results: dataset, labels, arm, cells."""
    results = _results(out)
    cells = results.drop_duplicates("cell")
    by_arm = cells.groupby(["dataset", "labels", "arm"], sort=False).size()
    return by_arm.rename("cells").reset_index()


def remove_arm(out: Path, arm: str) -> int:
    """Take an arm out of all tables, and its runs from the disk; returns how many cells it had.

    Raises `InputError` where there is no such arm, no other one, or a sweep is writing.
    """
    _results(out)
    with locked(beside_table(out, "_cells") / "sweep.lock"):
        results = _results(out)
        is_of_arm = results.arm == arm
        _check_there(out, results, arm)
        if is_of_arm.all():
            raise InputError(
                f"{out} has no other arm than {arm!r}; delete the table instead."
            )
        write_results(out, results[~is_of_arm])
        _trim(out, set(results.cell[~is_of_arm]))
        cells = results[is_of_arm].drop_duplicates("cell")
        for _, place in cells[KEYS].iterrows():
            shutil.rmtree(folder_at(place.to_dict(), out), ignore_errors=True)
    return len(cells)


def rename_arm(out: Path, arm: str, name: str) -> int:
    """Give an arm another name in all tables and folders; returns how many cells it has.

    Raises `InputError` where there is no such arm, the name is another one's, or a sweep is
    writing.
    """
    check_arm(name)
    _results(out)
    with locked(beside_table(out, "_cells") / "sweep.lock"):
        results = _results(out)
        _check_there(out, results, arm)
        if name in set(results.arm):
            raise InputError(f"{out} has an arm {name!r} already; give another name.")
        facts = _facts(out)
        id_of = _ids(facts["grids"], {arm: name})
        is_of_arm = results.arm == arm
        unknown = set(results.cell[is_of_arm]) - id_of.keys()
        if unknown:
            raise InputError(
                f"{beside_table(out, '.json')} lacks the grid of {len(unknown)} cells of {arm!r}; "
                "move it with its table."
            )
        for grid in facts["grids"].values():
            renamed = grid.get("renamed", {})
            came_from = [old for old, new in renamed.items() if new == arm] or [arm]
            grid["renamed"] = renamed | dict.fromkeys(came_from, name)
        _grow(out, results.cell[is_of_arm], id_of, name)
        _move_runs(out, results[is_of_arm], id_of, name)
        with replacing(beside_table(out, ".json")) as partial:
            partial.write_text(json.dumps(facts, indent=1) + "\n")
        results.loc[is_of_arm, "cell"] = results.cell[is_of_arm].map(id_of)
        results.loc[is_of_arm, "arm"] = name
        write_results(out, results)
        _trim(out, set(results.cell))
    return results[is_of_arm].cell.nunique()


def _results(out: Path) -> pd.DataFrame:
    """The table of results, if it is one; nothing is made beside another file."""
    no_table = f"{out} is no table of a sweep; make it with rsrl sweep."
    if not out.is_file():
        raise InputError(no_table)
    with reading(out, "table of a sweep", "make it with rsrl sweep"):
        results = read_results(out)
    if not {"cell", *KEYS} <= set(results):
        raise InputError(no_table)
    # A table of before may hold an arm without a name.
    return results.fillna({"arm": ""})


def _check_there(out: Path, results: pd.DataFrame, arm: str) -> None:
    if arm not in set(results.arm):
        there = ", ".join(results.arm.unique())
        raise InputError(f"{out} has no arm {arm!r}; there are {there}.")


def _facts(out: Path) -> dict:
    path = beside_table(out, ".json")
    if not path.exists():
        raise InputError(
            f"{path} is needed: it says what each arm did; move it with its table."
        )
    return json.loads(path.read_text())


def _ids(grids: Mapping[str, dict], new_name: Mapping[str, str]) -> dict[str, str]:
    """From the id of each cell of the grids to the one that it has with the new name."""
    id_of = {}
    with TemporaryDirectory() as folder:
        for name, facts in grids.items():
            path = Path(folder) / name
            path.write_text(facts["grid"])
            # One that was stopped may have noted the new name already.
            before = {new: old for old, new in new_name.items()}
            renamed = {
                old: before.get(new, new)
                for old, new in facts.get("renamed", {}).items()
            }
            today = read_grid(path, renamed=renamed)
            names = {old: new_name.get(new, new) for old, new in renamed.items()}
            then = read_grid(path, renamed=dict(new_name) | names)
            id_of |= {old.id: new.id for old, new in zip(today, then, strict=True)}
    return id_of


def _grow(out: Path, cells: pd.Series, id_of: Mapping[str, str], name: str) -> None:
    """Add the rows of cells once more, under their new ids and name."""
    for table in TABLES:
        path = beside_table(out, f"_{table}.parquet")
        rows = pd.read_parquet(path)
        rows = rows[~rows.cell.isin({id_of[cell] for cell in cells})]
        again = rows[rows.cell.isin(set(cells))]
        again = again.assign(cell=again.cell.map(id_of), arm=name)
        with replacing(path) as partial:
            grown = pd.concat([rows, again], ignore_index=True)
            grown.to_parquet(partial, index=False)


def _trim(out: Path, ids: set[str]) -> None:
    """Leave only the cells of these ids in the other tables."""
    for table in TABLES:
        path = beside_table(out, f"_{table}.parquet")
        rows = pd.read_parquet(path)
        with replacing(path) as partial:
            rows[rows.cell.isin(ids)].to_parquet(partial, index=False)


def _move_runs(
    out: Path, results: pd.DataFrame, id_of: Mapping[str, str], name: str
) -> None:
    """Give the runs that are still there the place and the id of the new name."""
    for _, place in results.drop_duplicates("cell")[KEYS].iterrows():
        before = folder_at(place.to_dict(), out)
        if not (before / DONE).exists():
            continue
        done = json.loads((before / DONE).read_text())
        done["cell"] = id_of.get(done["cell"], done["cell"])
        for row in done["rows"]:
            row |= {"cell": done["cell"], "arm": name}
        for table in TABLES:
            path = before / f"cell_{table}.parquet"
            rows = pd.read_parquet(path).assign(cell=done["cell"], arm=name)
            with replacing(path) as partial:
                rows.to_parquet(partial, index=False)
        with replacing(before / DONE) as partial:
            partial.write_text(json.dumps(done))
        before.replace(folder_at(place.to_dict() | {"arm": name}, out))

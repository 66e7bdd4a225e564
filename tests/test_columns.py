"""A column with the name of a method of pandas is to be read as `table["map"]`.

`table.map == "late"` compares a method, is False, and takes no row, without a word.
"""

import ast
import inspect
import json

import pandas as pd

from tests.conftest import ROOT

METHODS = {
    name
    for kind in (pd.DataFrame, pd.Series)
    for name, _ in inspect.getmembers(kind, inspect.isfunction)
}
# Not looked at: the code alone does not tell these from columns, and nothing looks for properties
# of tables, such as size, which pictures have too.
OTHERS = {"mask": "GlassPhoto", "drop": "Recipe", "head": "Recipe and AestheticNet"}


def sources():
    """Place and code of every module that users run, and of every cell of a notebook."""
    for folder in ("rsrl_lib", "benchmarks", "data"):
        for path in sorted((ROOT / folder).glob("*.py")):
            yield path.name, ast.parse(path.read_text())
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        for number, cell in enumerate(json.loads(path.read_text())["cells"]):
            if cell["cell_type"] == "code":
                yield f"{path.stem}, cell {number}", ast.parse("".join(cell["source"]))


def columns_of(code):
    """Texts within the brackets of `table["map"]` and the like."""
    brackets = [part.slice for part in ast.walk(code) if isinstance(part, ast.Subscript)]
    texts = [part.value for inner in brackets for part in ast.walk(inner) if _is_text(part)]
    return set(texts)


def _is_text(part):
    return isinstance(part, ast.Constant) and isinstance(part.value, str)


def read_as_attributes(code, names):
    """Attributes of these names that are not called, and are not those of NumPy."""
    called = {id(part.func) for part in ast.walk(code) if isinstance(part, ast.Call)}
    attributes = [part for part in ast.walk(code) if isinstance(part, ast.Attribute)]
    for part in attributes:
        is_method = id(part) in called or ast.unparse(part.value) == "np"
        if part.attr in names and not is_method:
            yield ast.unparse(part)


def test_no_column_is_read_by_a_name_that_is_a_method_of_pandas():
    code = dict(sources())
    columns = set().union(*map(columns_of, code.values()))
    names = (columns & METHODS) - set(OTHERS)
    assert {"map", "mean", "round"} <= names
    found = {place: list(read_as_attributes(parsed, names)) for place, parsed in code.items()}
    assert {place: read for place, read in found.items() if read} == {}

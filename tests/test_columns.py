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
    """Name and code of every module that users run, and of every notebook."""
    for folder in ("rsrl_lib", "benchmarks", "data", "studies"):
        for path in sorted((ROOT / folder).glob("*.py")):
            yield path.name, ast.parse(path.read_text())
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        yield path.name, ast.parse("\n".join(code))


def columns_of(code):
    """Texts within the brackets of `table["map"]` and the like."""
    brackets = [part.slice for part in ast.walk(code) if isinstance(part, ast.Subscript)]
    texts = [part.value for inner in brackets for part in ast.walk(inner) if _is_text(part)]
    return set(texts)


def _is_text(part):
    return isinstance(part, ast.Constant) and isinstance(part.value, str)


def read_as_attributes(code, names):
    """Attributes of these names that are read and not called; those of modules are no columns."""
    parts = list(ast.walk(code))
    imports = [part for part in parts if isinstance(part, ast.Import | ast.ImportFrom)]
    modules = {alias.asname or alias.name for part in imports for alias in part.names}
    called = {id(part.func) for part in parts if isinstance(part, ast.Call)}
    for part in parts:
        is_read = isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Load)
        if is_read and part.attr in names and id(part) not in called:
            yield from {ast.unparse(part)} - {f"{module}.{part.attr}" for module in modules}


def test_no_column_is_read_by_a_name_that_is_a_method_of_pandas():
    code = dict(sources())
    columns = set().union(*map(columns_of, code.values()))
    names = (columns & METHODS) - set(OTHERS)
    assert {"map", "mean", "round"} <= names
    found = {place: list(read_as_attributes(parsed, names)) for place, parsed in code.items()}
    assert {place: read for place, read in found.items() if read} == {}

"""Whether a setting is what its class says: of the right type, one of the named values, not too
small. Grids, notebooks and the command line fill in the same classes and get the same sentence.
"""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

from rsrl_lib.files import InputError


def check(settings: object, **least: float) -> None:
    """`InputError` where a field of a dataclass is not of its type, none of the values that its
    `Literal` names, or is not None and less than its `least`."""
    for name, kind in get_type_hints(type(settings)).items():
        given = getattr(settings, name)
        check_type(name, given, kind)
        smallest = least.get(name)
        if smallest is None or given is None:
            continue
        if given < smallest:
            raise InputError(f"{name} must be {smallest} or more, not {given}.")


def check_type(name: str, given: object, kind: object) -> None:
    """`InputError` that says what a setting of a type must be, and what was given."""
    if is_of_type(given, kind):
        return
    wanted = in_words(kind)
    is_misspelt = isinstance(given, str) and wanted.startswith("one of")
    what = repr(given) if is_misspelt else told(given)
    raise InputError(f"{name} must be {wanted}, not {what}.")


def is_of_type(given: object, kind: object) -> bool:
    """Whether a value is of a type; a list may stand for a tuple, and a whole number for a real.

    True and false are no numbers, and a real is finite.

    >>> is_of_type([0.5, 1], tuple[float, ...] | None), is_of_type(True, int)
    (True, False)
    """
    form = get_origin(kind)
    parts = get_args(kind)
    if form is Literal:
        return isinstance(given, str) and given in parts
    if form in (Union, UnionType):
        return any(is_of_type(given, part) for part in parts)
    if form in (tuple, Sequence):
        if not isinstance(given, tuple | list):
            return False
        kinds = parts
        if not _has_fixed_length(kind):
            kinds = parts[:1] * len(given)
        if len(given) != len(kinds):
            return False
        return all(map(is_of_type, given, kinds))
    if kind in (int, float) and isinstance(given, bool):
        return False
    if kind is float:
        return isinstance(given, Real) and math.isfinite(given)
    if kind is int:
        return isinstance(given, Integral)
    return isinstance(given, kind)


def _has_fixed_length(kind: object) -> bool:
    """Whether a type of lists names each of their items, as tuple[float, float] does."""
    if get_origin(kind) is not tuple:
        return False
    *_, last = get_args(kind)
    return last is not Ellipsis


def in_words(kind: object) -> str:
    """A type as a user knows it.

    >>> in_words(tuple[float, float]), in_words(int | None)
    ('a list of 2 finite numbers', 'a whole number')
    """
    form = get_origin(kind)
    parts = get_args(kind)
    if form is Literal:
        return f"one of {', '.join(parts)}"
    if form in (Union, UnionType):
        words = [in_words(part) for part in parts if part is not NoneType]
        different = dict.fromkeys(words)
        return " or ".join(different)
    if form in (tuple, Sequence):
        count = f"{len(parts)} " if _has_fixed_length(kind) else ""
        items = _SEVERAL[parts[0]]
        return f"a list of {count}{items}"
    if kind in _ONE:
        return _ONE[kind]
    name = getattr(kind, "__name__", kind)
    return f"a {name}"


def told(given: object) -> str:
    """A value, and where it could be taken for another one, of which kind it is.

    >>> told("3"), told(True), told([1])
    ("the text '3'", 'true', 'the list [1]')
    """
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, tuple):
        given = list(given)
    for kind, name in ((str, "text"), (dict, "table"), (list, "list")):
        if isinstance(given, kind):
            return f"the {name} {given!r}"
    return str(given)


_ONE = {
    bool: "true or false",
    dict: "a table",
    int: "a whole number",
    float: "a finite number",
    str: "a text in quotes",
    Path: "a text in quotes",
}
_SEVERAL = {int: "whole numbers", float: "finite numbers", str: "texts in quotes"}

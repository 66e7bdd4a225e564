"""A page as data, and how it becomes one HTML file that needs nothing else.

Whoever fills a page does not write HTML: the template does, and escapes every word it is given.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rsrl_lib.files import replacing
from rsrl_lib.report.figures import Picture

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class Words:
    """Sentences, each a paragraph; `kind` is '', 'verdict', 'note' or 'list'."""

    sentences: Sequence[str]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head; all but the first column are numbers, unless `is_text`."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    is_text: bool = False


@dataclass(frozen=True)
class Panels:
    """Figures side by side, or one below the other where there is no room."""

    pictures: Sequence[Picture]
    are_wide: bool = False


@dataclass(frozen=True)
class Thumbnails:
    """Small photos with captions, under a title where there is one."""

    title: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Pair:
    """Blocks side by side where there is room, one half each."""

    left: Sequence[object]
    right: Sequence[object]


@dataclass(frozen=True)
class Folded:
    """Blocks that open by a click."""

    title: str
    blocks: Sequence[object]


@dataclass
class Section:
    title: str
    blocks: list[object] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    title: str
    lead: str
    """One sentence below the title."""
    sections: Sequence[Section]


OPTION = re.compile(r"(--[a-z][a-z-]*(?: [\d.]+| all| yes| head)?)")
"""An option in a sentence, with its value, which a line's end should not part."""


def with_options(sentence: str) -> "Markup":
    """A sentence as HTML, its options in the letters of a terminal."""
    from markupsafe import Markup, escape

    words = []
    for number, part in enumerate(OPTION.split(str(sentence))):
        is_option = number % 2 == 1
        words.append(f"<code>{escape(part)}</code>" if is_option else escape(part))
    return Markup("".join(words))


def rendered(page: Page) -> str:
    """The page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("rsrl_lib.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["with_options"] = with_options
    templates.tests["block"] = lambda given, name: type(given).__name__ == name
    return templates.get_template("report.html.j2").render(page=page)


def write(page: Page, path: Path) -> None:
    """Write a page, whole or not at all."""
    text = rendered(page)
    with replacing(path) as partial:
        # A name may hold what no letter is: a page shows it, UTF-8 cannot.
        partial.write_text(text, encoding="utf-8", errors="replace")

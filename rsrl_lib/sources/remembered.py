"""Photos that know where they come from, so that they can be read again."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from inspect import signature

from rsrl_lib.photos import ScoredPhotos

PLACES = ("votes", "parts")
"""Options of readers that name a file."""


def remembering(
    source: str, reader: Callable[..., ScoredPhotos]
) -> Callable[..., ScoredPhotos]:
    """A reader that notes in the photos' `origin` what it was given; it reads as before."""
    form = signature(reader)

    @wraps(reader)
    def read(*given, **options) -> ScoredPhotos:
        scored = reader(*given, **options)
        arguments = form.bind(*given, **options).arguments
        return replace(scored, origin=_origin(source, arguments))

    return read


def _origin(source: str, arguments: Mapping[str, object]) -> dict[str, object]:
    """What a reader was given, as JSON can hold it; places as they are from anywhere."""
    options = dict(arguments)
    folder = _absolute(options.pop("folder"))
    scores = options.pop("scores", None)
    for name in PLACES:
        if options.get(name):
            options[name] = _absolute(options[name])
    for name, value in options.items():
        options[name] = list(value) if isinstance(value, tuple) else value
    return {
        "source": source,
        "folder": folder,
        "scores": None if scores is None else _absolute(scores),
        "options": options,
    }


def _absolute(place: object) -> str:
    return os.path.abspath(place)  # noqa: PTH100 — a link keeps its name

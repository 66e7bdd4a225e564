"""Where scored photos come from, as it is written down, and the photos again."""

from collections.abc import Mapping

from rsrl_lib.drawing import glassbox
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.sources import read_photos


def open_photos(origin: Mapping[str, object]) -> ScoredPhotos:
    """The photos of a `ScoredPhotos.origin`, or of the table `photos` of a grid.

    Raises `InputError` where they cannot be read any more.
    """
    if "glassbox" in origin:
        return glassbox.open_set(**origin["glassbox"])
    source = origin.get("source", "folder")
    options = origin.get("options", {})
    return read_photos(source, origin["folder"], origin.get("scores"), **options)

"""Outlines of what is painted: solids of revolution, the boat, and what clutters a photo.

All lie about the origin, x to the right and y downwards.
"""

import numpy as np
from scipy.interpolate import pchip_interpolate

BOAT = [  # polygons x y ... over -1..1: hull, mast and two sails
    "-.85 .62 .9 .55 .6 .95 -.6 .95",
    "-.03 -1 .03 -1 .03 .6 -.03 .6",
    "-.07 -.8 -.07 .45 -.7 .45",
    ".07 -.92 .08 .45 .85 .42 .5 -.2",
]
LATHED = {  # solids of revolution: y radius ... downwards
    "fir": "-1.1 .01 -.7 .24 -.68 .12 -.3 .4 -.28 .22 .15 .54 .17 .3 .7 .66 .72 .09 1 .11",
    "jug": "-1 .3 -.85 .24 -.5 .25 -.1 .55 .4 .66 .8 .5 1 .36",
    "bottle": "-1.1 .15 -1.02 .15 -1 .11 -.5 .13 -.25 .36 .3 .4 .95 .4 1 .34",
    "balloon": "-1 .02 -.93 .35 -.5 .72 -.2 .76 .2 .58 .58 .16 .6 .02 .84 .02 .85 .13 1.05 .11",
    "lighthouse": "-1.1 .01 -.86 .22 -.85 .14 -.63 .14 -.62 .28 -.56 .28 -.55 .2 .2 .27 1 .36",
    "apple": "-.8 .05 -.74 .32 -.45 .7 0 .82 .38 .72 .66 .44 .76 .1",
    "pagoda": "-1.1 .01 -.9 .05 -.7 .3 -.66 .14 -.36 .16 -.3 .46 -.25 .2 .1 .22 .2 .6 .26 .28 1 .3",
    "mushroom": "-.8 .05 -.74 .3 -.5 .62 -.15 .8 -.05 .74 -.03 .24 .5 .22 .9 .32 1 .3",
    "lamp": "-.9 .28 -.2 .62 -.16 .06 .6 .08 .85 .2 .95 .45 1 .46",
}


def radius_at(solid: str, y: np.ndarray) -> np.ndarray:
    """Radius of a solid of revolution at the heights `y`; -1 above its top and below its foot."""
    profile = polygon(LATHED[solid])
    heights = profile[0::2]
    radii = profile[1::2]
    top = heights[0]
    foot = heights[-1]
    within = np.clip(y, top, foot)
    radius = pchip_interpolate(heights, radii, within)
    radius[y < top] = -1
    radius[y > foot] = -1
    return np.float32(radius)


def polygon(outline: str) -> np.ndarray:
    """The numbers x y ... of an outline."""
    numbers = outline.split()
    return np.array(numbers, float)


def clutter(rng: np.random.Generator, is_twig: bool) -> list[list[float]]:
    """Two random polygons x y ...: foot and head of a thing that stands, or a forked twig."""
    least = (0.02, 0.5, 0.1, 0.2)
    most = (0.3, 1.4, 0.5, 0.9)
    thin, tall, wide, share = rng.uniform(least, most)
    top = -tall
    if is_twig:
        tip = share - 0.7
        left_of_fork = share - 0.5
        right_of_fork = share - 0.4
        thick = thin + 0.1
        stem = [thin, tall, thick, tall, tip, top]
        branch = [wide, tall, right_of_fork, top, left_of_fork, top]
        return [stem, branch]
    low = top * share
    foot = _upright(thin, 0, top)
    head = _upright(wide, top, low)
    return [foot, head]


def _upright(half_width: float, first: float, second: float) -> list[float]:
    """A rectangle x y ... about the middle, from one height to another."""
    left = -half_width
    right = half_width
    return [left, first, right, first, right, second, left, second]

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
    profile = np.array(LATHED[solid].split(), float)
    heights = profile[0::2]
    radii = profile[1::2]
    top = heights[0]
    foot = heights[-1]
    within = np.clip(y, top, foot)
    radius = pchip_interpolate(heights, radii, within)
    is_outside = (y < top) | (y > foot)
    radius = np.where(is_outside, -1, radius)
    return np.float32(radius)


def polygon(outline: str) -> np.ndarray:
    """The numbers x y ... of an outline."""
    return np.array(outline.split(), float)


def clutter(rng: np.random.Generator, is_twig: bool) -> list[list[float]]:
    """Two random polygons x y ...: foot and head of a thing that stands, or a forked twig."""
    bounds = (0.02, 0.5, 0.1, 0.2), (0.3, 1.4, 0.5, 0.9)
    thin, tall, wide, share = rng.uniform(*bounds)
    if is_twig:
        return [
            [thin, tall, thin + 0.1, tall, share - 0.7, -tall],
            [wide, tall, share - 0.4, -tall, share - 0.5, -tall],
        ]
    low = -tall * share
    foot = [-thin, 0, thin, 0, thin, -tall, -thin, -tall]
    head = [-wide, -tall, wide, -tall, wide, low, -wide, low]
    return [foot, head]

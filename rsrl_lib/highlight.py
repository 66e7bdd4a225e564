"""Highlight regions: where two networks of a run see one photo differently (SSRL-2019 section 4).

The conv1 maps of round I and of an earlier one are compared channel by channel; the maps of the
least correlated channel J are subtracted, and 2-means parts the values of the difference in two.
The papers leave open whether maps are taken before ReLU (default, as MATLAB's 'conv1'), whether
the difference is signed (default), and which cluster is the highlight: here the one whose centre
lies farther from zero, where retraining moved the response most; the sign of a filter means
nothing, so "the higher one" would not do. Maps are of the whole photo, 256 px, shrunk by the factor
that the run's training shrank its crops by. A region is exact to a step of conv1: of torchvision's
networks 1, 2 or 4 px of that view.
"""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from sklearn.cluster import KMeans
from torch import nn
from torch.nn.functional import cosine_similarity

from rsrl_lib.backbones import Body, check_side
from rsrl_lib.files import InputError
from rsrl_lib.network import AestheticNet
from rsrl_lib.pixels import largest_part, normalised
from rsrl_lib.recipe import names_of
from rsrl_lib.runs import Run

# Float32 maps of one photo agree to about 1e-6; a hundred times that is movement, not rounding.
FLOOR = 1e-4


@dataclass(frozen=True)
class Highlight:
    """What two rounds see differently in one photo; maps and region are (h, w) of conv1's grid."""

    channel: int
    """J, counted from 0."""
    correlations: np.ndarray
    """Pearson correlation of the two maps of every channel (channels,); NaN where one is flat."""
    later: np.ndarray
    earlier: np.ndarray
    diff: np.ndarray
    region: np.ndarray
    """True in the highlight."""

    @property
    def rising(self) -> np.ndarray:
        """The difference (h, w), its sign turned so that it is larger inside the region."""
        mean_inside = self.diff[self.region].mean()
        if mean_inside > self.diff.mean():
            return self.diff
        return -self.diff

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """The region at the size (width, height) of a photo, boolean (height, width)."""
        return _at_size(self.region, size)

    def facts(self, size: tuple[int, int]) -> dict[str, float]:
        """J, its correlation, the region's share of the area, and the box of its largest connected
        part, in pixels of a photo of that size."""
        mask = self.mask(size)
        largest = _at_size(largest_part(self.region), size)
        box = Image.fromarray(largest).getbbox()
        left, top, right, foot = box or (0, 0, 0, 0)
        correlation = self.correlations[self.channel]
        return {
            "J": self.channel,
            "correlation": float(correlation),
            "area_share": float(mask.mean()),
            "left": left,
            "top": top,
            "width": right - left,
            "height": foot - top,
        }


def _at_size(region: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A region (h, w) at the size (width, height) of a photo, boolean (height, width)."""
    resized = Image.fromarray(region).resize(size, Image.Resampling.NEAREST)
    return np.asarray(resized)


def pair_of_rounds(
    run: Run, later: int | None = None, step: int = 1
) -> tuple[int, int]:
    """Rounds I and I - k (`later`, `step`) whose maps are compared; I is the last one unless given
    (SSRL-2019 eq. 4).

    Raises `InputError` where the run has not both.
    """
    last = len(run.rounds)
    if last < 2:
        raise InputError(
            f"{run.folder} has one round, a highlight compares two; train it on."
        )
    if later is None:
        later = last
    asked = (("later", later, 2, last), ("step", step, 1, last - 1))
    for name, number, least, most in asked:
        if type(number) is not int or not least <= number <= most:
            raise InputError(
                f"{name} is {number!r} and {run.folder} has {last} rounds; give a whole number "
                f"from {least} to {most}."
            )
    if step >= later:
        raise InputError(
            f"There is no round {step} before round {later}; give a step from 1 to {later - 1}."
        )
    return later, later - step


def conv1_of(run: Run, i: int, *, body: Body | None = None) -> nn.Conv2d:
    """The first layer of round `i` of a run, which is given normalised photos; nothing else of a
    network is read. Of a module of your own, `body` has to give it.

    Raises `InputError` where there is no such round, and where a network has no first convolution
    of photos, or several.
    """
    backbone = run.info["recipe"]["backbone"]
    with torch.device("meta"):
        network = AestheticNet(deepcopy(body) or backbone, [0])
    layer = network.conv1
    if layer is None:
        raise InputError(
            "A highlight map needs one first convolution of photos, "
            f"{' and '.join(names_of(backbone))} has none or several; take a run of another "
            "backbone."
        )
    of_all_rounds = run.conv1()
    prefix = f"round_{i:02d}"
    if f"{prefix}.weight" not in of_all_rounds:
        last = sum(name.endswith(".weight") for name in of_all_rounds)
        raise InputError(
            f"{run.folder} holds conv1 of rounds 1 to {last}, not of round {i}; "
            "give two of these."
        )
    of_round = {}
    for name, _ in layer.named_parameters():
        of_round[name] = of_all_rounds[f"{prefix}.{name}"]
    layer.load_state_dict(of_round, assign=True)
    prepare = network.parts[0].prepare
    if prepare is not None:
        layer.register_forward_pre_hook(lambda _layer, given: prepare(given[0]))
    layer.side = network.side  # of the photos, which `highlights` compares
    return layer.requires_grad_(False)


def stacked(later: nn.Conv2d, earlier: nn.Conv2d) -> nn.Conv2d:
    """Two first layers as one of twice the channels, so that one pass gives the maps of both.

    Raises `InputError` where they differ by less than `FLOOR` of their norm: the maps would show
    rounding, not what was learned.
    """
    new = later.state_dict()
    old = earlier.state_dict()
    change = new["weight"] - old["weight"]
    share_moved = change.norm() / old["weight"].norm()
    moved = share_moved.item()
    if moved == 0:
        raise InputError(
            "conv1 has not moved between the two rounds, a highlight map shows how it moved; take "
            "a run that trained all layers (tune 'all')."
        )
    if not moved >= FLOOR:
        raise InputError(
            f"conv1 of the two rounds differs by {moved:.1e} of its norm, a highlight map needs "
            f"{FLOOR:g}; take rounds farther apart, or train with a higher learning rate."
        )
    both = deepcopy(later)  # some pad in ways of their own
    both.out_channels *= 2
    parameters = {name: torch.cat([new[name], old[name]]) for name in new}
    for name, values in parameters.items():
        setattr(both, name, nn.Parameter(values, requires_grad=False))
    return both


def highlights(
    pair: nn.Conv2d,
    photos: torch.Tensor,
    *,
    shrink_to: int | None,
    channel: int | None = None,
    after_relu: bool = False,
    absolute: bool = False,
    flip: bool = False,
) -> list[Highlight]:
    """Difference map and region of each photo (SSRL-2019 eq. 4 and 5), in float32.

    `pair` is a `stacked` first layer, `photos` are bytes (batch, 3, side, side), `shrink_to` is
    that of the run's training (`Run.view` has it; see `pixels.normalised`). J is the channel of
    lowest correlation, or `channel`; `flip` takes the other cluster. A flat map has no correlation
    and is never chosen. Raises `InputError` where no channel is least correlated (all flat, or a
    tie), where a map is not finite, where the difference is flat, and where the photos are of
    another side than the run's networks look at.
    """
    side = photos.shape[-1]
    check_side(side, getattr(pair, "side", side), "The run")
    results = []
    # Eight at once: float64 sums over the maps of more would fill the memory.
    for some in photos.split(8):
        with torch.autocast(photos.device.type, enabled=False):
            maps = pair(normalised(some, shrink_to=shrink_to))
        maps = maps.unflatten(1, (2, -1))  # (8, 2, channels, h, w)
        if not maps.isfinite().all():
            raise InputError(
                "A conv1 map is not finite; one of the two networks is broken."
            )
        if after_relu:
            maps = maps.relu()
        later, earlier = maps.unbind(1)
        r = correlations(later, earlier)  # (8, channels)
        for r_photo, later_maps, earlier_maps in zip(r, later, earlier, strict=True):
            J = _least(r_photo) if channel is None else channel
            if not 0 <= J < len(r_photo):
                raise InputError(f"J must lie in 0..{len(r_photo) - 1}, not {J}.")
            later_map = later_maps[J].numpy().copy()  # a view would keep every channel
            earlier_map = earlier_maps[J].numpy().copy()
            diff = later_map - earlier_map
            if absolute:
                diff = np.abs(diff)
            region = two_means(diff, flip=flip)
            result = Highlight(J, r_photo.numpy(), later_map, earlier_map, diff, region)
            results.append(result)
    return results


def correlations(later: torch.Tensor, earlier: torch.Tensor) -> torch.Tensor:
    """Pearson correlation of two maps (..., h, w) over the positions; NaN where one is flat.

    Summed in float64: maps of neighbouring rounds correlate to the sixth digit.
    """
    later = later.flatten(-2).double()  # (..., positions)
    earlier = earlier.flatten(-2).double()
    is_flat = _is_flat(later) | _is_flat(earlier)
    later_centred = later - later.mean(-1, keepdim=True)
    earlier_centred = earlier - earlier.mean(-1, keepdim=True)
    r = cosine_similarity(later_centred, earlier_centred, dim=-1, eps=0)
    return r.masked_fill(is_flat, torch.nan)


def _is_flat(maps: torch.Tensor) -> torch.Tensor:
    """Whether maps (..., positions) have one value, up to the rounding of float32."""
    spread = maps.std(-1)
    largest = maps.abs().amax(-1)
    return spread <= 1e-6 * largest


def two_means(diff: np.ndarray, *, flip: bool = False) -> np.ndarray:
    """Region (h, w) of a difference map: the cluster of its values that is farther from zero."""
    if not np.ptp(diff) > 0:
        raise InputError(
            "The difference map has one value everywhere; 2-means needs two."
        )
    # From both ends of the line: always the same region, nearly always that of many random starts.
    ends = np.array([[diff.min()], [diff.max()]])
    means = KMeans(2, init=ends, n_init=1)
    means.fit(diff.reshape(-1, 1))
    centres = means.cluster_centers_[:, 0]
    farther = np.abs(centres).argmax()
    is_highlight = means.labels_ == farther
    region = is_highlight.reshape(diff.shape)
    return region ^ flip


def _least(correlation: torch.Tensor) -> int:
    """J, the channel of lowest correlation; `InputError` where none is lower than all others."""
    has_correlation = correlation.isfinite()
    if not has_correlation.any():
        reason = "all maps are flat"
    else:
        lowest = correlation[has_correlation].min()
        is_lowest = correlation == lowest
        channels = is_lowest.nonzero()[:, 0].tolist()
        if len(channels) == 1:
            return channels[0]
        reason = f"channels {channels} tie"
    raise InputError(
        f"No channel is least correlated: {reason}; choose another photo, or J."
    )

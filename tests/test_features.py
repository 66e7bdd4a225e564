"""Features of photos under a network that stays as it came."""

import dataclasses

import numpy as np
import pytest
import torch

from rsrl_lib import features as f
from rsrl_lib.files import InputError
from rsrl_lib.network import aesthetic_net
from rsrl_lib.pixels import Pixels, normalised


@pytest.fixture
def network():
    return aesthetic_net("squeezenet1_1", [2, 3], weights="none")


@pytest.fixture
def few(coloured, tmp_path):
    pixels = coloured[1]
    return dataclasses.replace(pixels, array=pixels.array[:7], folder=tmp_path)


def test_features_are_what_the_head_sees_of_a_photo_and_its_mirror(network, few):
    values = f.features(network, few, shrink_to=100, precision="float32")
    photos = torch.tensor(few.array).permute(0, 3, 1, 2)
    with torch.inference_mode():
        both = [
            network.eval().body(normalised(view, shrink_to=100))
            for view in (photos, photos.flip(3))
        ]
    np.testing.assert_allclose(values, sum(both) / 2, rtol=1e-4, atol=1e-6)


def test_a_photo_is_looked_at_once_for_the_same_weights_and_view(network, few, monkeypatch):
    first = f.features(network, few, shrink_to=64)
    asked = []
    monkeypatch.setattr(f, "_of_batch", lambda *args: asked.append(args))
    again = f.features(network, few, shrink_to=64)
    assert isinstance(again, np.memmap) and (again == first).all() and not asked
    with pytest.raises(TypeError):
        f.features(network, few, shrink_to=65)
    with torch.no_grad():
        network.conv1.weight[0, 0, 0, 0] += 1
    with pytest.raises(TypeError):
        f.features(network, few, shrink_to=64)
    assert len(asked) == 2


def test_an_embedding_that_was_stopped_goes_on(network, few, monkeypatch):
    monkeypatch.setattr(f, "PIECE", 3)
    whole = f.features(network, dataclasses.replace(few, folder=None), shrink_to=64)
    work, calls = f._of_batch, []

    def stopping(body, pixels, rows, view):
        calls.append(rows.tolist())
        if len(calls) == 2:
            raise KeyboardInterrupt
        return work(body, pixels, rows, view)

    monkeypatch.setattr(f, "_of_batch", stopping)
    with pytest.raises(KeyboardInterrupt):
        f.features(network, few, shrink_to=64)
    values = f.features(network, few, shrink_to=64)
    assert calls == [[0, 1, 2], [3, 4, 5], [3, 4, 5], [6]]
    assert (values == whole).all()
    assert [path.name for path in few.folder.glob("*.npy")] == [values.filename.name]


def test_a_damaged_file_and_broken_weights_are_told(network, few):
    values = f.features(network, few, shrink_to=64)
    path = few.folder / values.filename.name
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"no readable array of features .* made again"):
        f.features(network, few, shrink_to=64)
    with torch.no_grad():
        network.conv1.weight.fill_(torch.nan)
    with pytest.raises(InputError, match=r"A feature is not finite; .* take others\."):
        f.features(network, Pixels(few.array), shrink_to=64)

"""Weights and caches from strangers: nothing in them is run, or allocated before it fits."""

import ast
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file
from torchvision import models

from rsrl_lib import network, pixels
from rsrl_lib.files import InputError
from rsrl_lib.runs import Run
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("bounded_memory")
MOST_MEMORY = 300e6  # a head of ten million scores would take twenty gigabytes


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def refused(path, says, *, transfer=True):
    """Reading a network, and taking weights from it, end in one sentence."""
    with pytest.raises(InputError, match=says) as caught:
        network.load_network(path)
    said = str(caught.value)
    assert len(said) < 2000 and said.endswith(".") and len(said.splitlines()) == 1
    if transfer:
        with pytest.raises(InputError, match=str(path.name)):
            network.aesthetic_net("squeezenet1_1", [3, 4], weights=str(path))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth"])
@pytest.mark.parametrize("kind", ["zip", "before 1.6", "pickle", "zip after tensors"])
def test_code_in_a_file_of_weights_does_not_run(tmp_path, name, kind):
    path, marker = tmp_path / name, tmp_path / "it_ran"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb(marker)))
    else:
        is_zip = kind != "before 1.6"
        torch.save({"a": Bomb(marker)}, path, _use_new_zipfile_serialization=is_zip)
    if kind == "zip after tensors":
        archive = path.read_bytes()
        save_file({"a": torch.zeros(1)}, path)
        path.write_bytes(path.read_bytes() + archive)
    refused(path, "is no readable safetensors file .*weights are read from safetensors alone")
    for part in ("network_last", "conv1"):
        (tmp_path / f"{part}.safetensors").write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="network_last"):
        Run(tmp_path).network("last")
    with pytest.raises((SafetensorError, InputError)):
        Run(tmp_path).conv1()
    assert not marker.exists()
    pickle.loads(pickle.dumps(Bomb(marker)))
    assert marker.exists()  # so it would have


def test_a_download_that_holds_code_is_refused_and_one_that_holds_weights_is_read(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    there = tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    there.parent.mkdir()
    torch.save({"a": Bomb(tmp_path / "it_ran")}, there)
    with pytest.raises(InputError, match=r"ImageNet weights of squeezenet1_1 .*'starter'"):
        network.aesthetic_net("squeezenet1_1", [3, 4])
    assert not (tmp_path / "it_ran").exists()
    state = models.squeezenet1_1().state_dict()
    for is_zip in (True, False):
        torch.save(state, there, _use_new_zipfile_serialization=is_zip)
        read = network.aesthetic_net("squeezenet1_1", [3, 4])
        assert torch.equal(read.conv1.weight, state["features.0.weight"])


@pytest.fixture(scope="module")
def whole():
    """Tensors of a network of two scores, and the facts stored with them."""
    made = network.aesthetic_net("squeezenet1_1", [3, 4], weights="none")
    return made.state_dict(), {"backbone": "squeezenet1_1", "scores": "3 4"}


def first(state, change):
    """The same tensors, the first one of conv1 changed."""
    name = next(iter(state))
    return {**state, name: change(state[name].clone())}


@pytest.mark.parametrize(
    "change",
    [
        lambda weight: weight.flatten(),
        lambda weight: weight[:1],
        lambda weight: torch.zeros(0),
        lambda weight: weight.to(torch.int32),
        lambda weight: weight.bool(),
        lambda weight: weight.fill_(torch.nan),
        lambda weight: weight.index_fill_(0, torch.tensor([0]), torch.inf),
    ],
    ids=["flat", "cut", "empty", "whole numbers", "booleans", "NaN", "infinite"],
)
def test_tensors_that_do_not_fit_or_are_not_finite_are_refused(tmp_path, whole, change):
    state, facts = whole
    save_file(first(state, change), tmp_path / "w.safetensors", facts)
    refused(tmp_path / "w.safetensors", r"do not fit squeezenet1_1: .* \(first: body\.features\.0")


def test_a_network_of_float64_is_refused_and_as_transferred_weights_rounded(tmp_path, whole):
    state, facts = whole
    path = tmp_path / "w.safetensors"
    save_file({name: tensor.double() for name, tensor in state.items()}, path, facts)
    refused(path, "52 have another shape or kind", transfer=False)
    read = network.aesthetic_net("squeezenet1_1", [3, 4], weights=str(path))
    assert torch.equal(read.conv1.weight, state["body.features.0.weight"])


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"scores": "a b"}, "is no readable network of a run .*'a'.*train the run anew"),
        ({"scores": "3 4 5"}, "do not fit squeezenet1_1: .*head"),
        ({"scores": ""}, "do not fit squeezenet1_1: .*head"),
        ({"scores": "9" * 5000}, "is no readable network of a run"),
        ({"scores": "3 " * 10_000_000}, "more than 100,000 characters"),
        ({"scores": "3 " * 50_000}, "do not fit squeezenet1_1: .*head"),
        ({"attributes": "["}, "is no readable network of a run"),
        ({"attributes": "5"}, "is no readable network of a run"),
        ({"attributes": '["a"]'}, "levels, scores and tensors do not go together"),
        ({"attributes": "[" * 90_000}, "is no readable network of a run"),
        ({"levels": "low"}, "levels, scores and tensors do not go together"),
        ({"backbone": "os.system"}, "There is no backbone 'os.system'; choose one of"),
        ({"backbone": "vgg16"}, "do not go together"),
        ({"head": "exec"}, "There is no head 'exec'; choose one of"),
    ],
)
def test_facts_of_a_network_that_cannot_be_are_refused(tmp_path, whole, facts, says):
    save_file(whole[0], tmp_path / "w.safetensors", whole[1] | facts)
    refused(tmp_path / "w.safetensors", says, transfer=False)


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("header", "length"),
    [
        ({"a": ONE}, 4 << 30),
        ({"a": ONE}, (1 << 64) - 1),
        ({"a": {**ONE, "data_offsets": [0, 400]}}, None),
        ({"a": {**ONE, "shape": [1 << 30], "data_offsets": [0, 4 << 30]}}, None),
        ({"a": {**ONE, "shape": [1 << 62, 1 << 62], "data_offsets": [0, 4]}}, None),
        ({"a": {**ONE, "data_offsets": [4, 0]}}, None),
        ({"a": ONE, "b": ONE}, None),
        ({"a": {**ONE, "shape": [-1]}}, None),
        ({"a": {**ONE, "dtype": "PY"}}, None),
        ({"a": ONE, "__metadata__": {"scores": [3, 4], "backbone": "alexnet"}}, None),
        ({"a": ONE, "__metadata__": "3 4"}, None),
        ([ONE], None),
    ],
    ids=[
        *("header of 4 GB", "header of all", "outside", "4 GB", "overflow", "backwards"),
        *("overlapping", "negative", "kind", "list as fact", "no facts", "no table"),
    ],
)
def test_a_header_that_claims_what_is_not_there_is_refused(tmp_path, header, length):
    text = json.dumps(header).encode()
    start = struct.pack("<Q", len(text) if length is None else length)
    (tmp_path / "w.safetensors").write_bytes(start + text + b"1234")
    refused(tmp_path / "w.safetensors", "is no readable safetensors file")


def test_of_a_tensor_named_twice_nothing_is_read_outside_the_file(tmp_path):
    text = b'{"a": %s, "a": %s}' % ((json.dumps(ONE).encode(),) * 2)
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"1234")
    refused(tmp_path / "w.safetensors", "holds weights but no scores")


@pytest.mark.parametrize(
    "damage",
    [
        np.array([Bomb("never")], object),
        np.zeros((2, 256, 256, 3), np.uint8),
        np.zeros((1, 256, 256, 3), np.float32),
        np.zeros((), np.uint8),
        b"",
        b"no array",
        pickle.dumps(5),
        b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (1, 9999999)}\n",
    ],
    ids=["objects", "too many", "floats", "one", "empty", "text", "pickle", "claims"],
)
@pytest.mark.parametrize("which", [1, 2], ids=["photos", "list of the broken"])
def test_a_damaged_array_of_decoded_photos_is_refused_and_not_unpickled(
    tmp_path, monkeypatch, damage, which
):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    table = pd.DataFrame({"photo": ["a.png"], "path": [str(tmp_path / "a.png")]})
    pixels.decode(table, cache=tmp_path / "cache")
    (kept,) = [p for p in (tmp_path / "cache").glob("*.npy") if len(p.suffixes) == which]
    if isinstance(damage, bytes):
        kept.write_bytes(damage)
    else:
        np.save(kept, damage)
    monkeypatch.setattr(Path, "touch", lambda *_: pytest.fail("it was unpickled"))
    says = "is no readable array of decoded photos .*delete it, and it is made again"
    with pytest.raises(InputError, match=says):
        pixels.decode(table, cache=tmp_path / "cache")
    for path in (tmp_path / "cache").glob("*.npy"):
        path.unlink()
    assert len(pixels.decode(table, cache=tmp_path / "cache")[0]) == 1


def code():
    """All code of the library, the benchmarks and the notebooks, by file."""
    for folder in ("rsrl_lib", "benchmarks", "studies"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), path.read_text()
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                lines = "".join(cell["source"]).splitlines()
                yield path.relative_to(ROOT), "\n".join(x for x in lines if x[:1] not in "%!")


MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "imp"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "yaml.load", "yaml.unsafe_load"}
CALLS |= {"joblib.load", "torch.jit.load", "torch.hub.load", "pd.read_pickle"}


def unsafe(text):
    """What in some code runs what a file says."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name.split(".")[0] for alias in node.names}
            names |= {(getattr(node, "module", None) or "").split(".")[0]}
            yield from sorted(names & MODULES)
        if not isinstance(node, ast.Call):
            continue
        called, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        is_named_here = called == "__import__" and isinstance(node.args[0], ast.Constant)
        if (called in CALLS and not is_named_here) or given.get("shell") == "True":
            yield called
        is_load = called == "torch.load" or called.endswith(("_from_url", "get_state_dict"))
        if is_load and given.get("weights_only") != "True":
            yield called
        if given.get("allow_pickle", "False") != "False" or (None in given and "load" in called):
            yield called


def test_no_code_of_ours_runs_what_a_file_says():
    files = list(code())
    assert len({path for path, _ in files}) > 40
    assert {(str(path), what) for path, text in files for what in unsafe(text)} == set()


@pytest.mark.parametrize(
    "text",
    [
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "weights.get_state_dict()",
        "import pickle",
        "from pickle import loads",
        "eval(x)",
        "exec(x)",
        "__import__(x)",
        "np.load(f, allow_pickle=True)",
        "np.load(f, **how)",
        "yaml.load(f)",
        "joblib.load(f)",
        "pd.read_pickle(f)",
        "os.system(x)",
        "subprocess.run(x, shell=True)",
    ],
)
def test_the_search_for_such_code_finds_it(text):
    assert list(unsafe(text))
    assert not list(unsafe("torch.load(f, weights_only=True); np.load(f); yaml.safe_load(f)"))

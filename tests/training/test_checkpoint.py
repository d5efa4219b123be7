"""Checkpoints: types and bits come back, files are whole or absent, damage is named."""

from __future__ import annotations

import hashlib
import os

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gnopt.data.moments import Statistics
from gnopt.errors import DataError
from gnopt.files import replacement, write_text
from gnopt.notes import shown_by
from gnopt.sealed import seal
from gnopt.training import checkpoint
from gnopt.training.checkpoint import StoredNetwork
from gnopt.training.tree import read_tree, write_tree

DTYPES = st.sampled_from([np.float32, np.float64, np.int64, np.int8, np.uint8, np.bool_])
ARRAYS = DTYPES.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | ARRAYS
    | st.text(st.characters(exclude_categories=["Cs"]))
)
KEYS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
KEYS = KEYS.filter(lambda key: key != ".")
TREES = st.recursive(
    LEAVES, lambda node: st.lists(node, max_size=4) | st.dictionaries(KEYS, node, max_size=4)
)


def equal(one: object, other: object) -> bool:
    """The same values, bits and types, in the same order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, (np.ndarray, float)):
        a, b = np.asarray(one), np.asarray(other)
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return one == other


@given(TREES)
def test_trees_come_back_bit_for_bit(tree):
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        write_tree(file, "state", tree)
        assert equal(read_tree(file, "state", 1 << 30), tree)


@pytest.mark.parametrize(
    "value", [object(), {1: 2}, {"a/b": 1}, {"": 1}, np.array(["a"]), b"x", 1j, {1, 2}, 2**64]
)
def test_what_cannot_be_stored_is_refused(value):
    with (
        h5py.File("memory", "w", driver="core", backing_store=False) as file,
        pytest.raises((TypeError, OverflowError)),
    ):
        write_tree(file, "state", value)


def network(**more: object) -> StoredNetwork:
    rng = np.random.default_rng(0)
    weights = [
        rng.standard_normal((3, 5)).astype(np.float32),
        rng.standard_normal((2, 4)).astype(np.float32),
    ]
    return StoredNetwork(weights, ["tanh"], "squared_error", 7, **more)  # type: ignore[arg-type]


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "step-000007.h5"
    checkpoint.save(
        path, network(losses={"train_loss": 2.5}), {"a": [1, 2.0, None], "b": np.arange(6.0)}
    )
    return path


def test_network_round_trip(saved, tmp_path):
    found = checkpoint.load_network(saved)
    assert found.activations == ["tanh"]
    assert found.loss == "squared_error"
    assert found.step == 7
    assert found.losses == {"train_loss": 2.5}
    assert found.sizes == [4, 3, 2]
    assert found.statistics is None
    assert all(equal(a, b) for a, b in zip(found.weights, network().weights, strict=True))
    assert equal(checkpoint.load_state(saved), {"a": [1, 2.0, None], "b": np.arange(6.0)})
    standard = network(statistics=Statistics(np.arange(4.0), np.ones(4)))
    checkpoint.save(tmp_path / "s.h5", standard, {})
    assert equal(
        list(checkpoint.load_network(tmp_path / "s.h5").statistics), list(standard.statistics)
    )


def test_equal_runs_write_equal_files(tmp_path):
    for name in ("a.h5", "b.h5"):
        checkpoint.save(tmp_path / name, network(), {"a": 1, "b": [np.ones(3)]})
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def _edit(change):
    def apply(path):
        with h5py.File(path, "a") as file:
            change(file)
        seal(path)  # whoever makes a hostile file can give it the right digest

    return apply


def _replace(file, name, data):
    del file[name]
    file[name] = data


def _cycle(file):
    file["state/a/9"] = file["state"]
    file["state/loop"] = file["state"]


def _huge(file):
    del file["state/b"]
    file.create_dataset("state/b", (1 << 40,), "f8", chunks=(1 << 20,)).attrs["kind"] = "array"


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not HDF5"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-2000]),
    "cut early": lambda path: path.write_bytes(path.read_bytes()[:900]),
    "another program's": _edit(lambda f: f.attrs.__delitem__("format")),
    "newer schema": _edit(lambda f: f.attrs.__setitem__("schema", 99)),
    "no layers": _edit(lambda f: f.__delitem__("network")),
    "a layer missing": _edit(lambda f: f.__delitem__("network/layers/1")),
    "no bias": _edit(lambda f: f.__delitem__("network/layers/2/bias")),
    "no activation": _edit(lambda f: f["network/layers/1"].attrs.__delitem__("activation")),
    "weights of text": _edit(lambda f: _replace(f, "network/layers/1/weight", "words")),
    "weights of objects": _edit(lambda f: _replace(f, "network/layers/1/weight", [["a", "b"]])),
    "one axis": _edit(lambda f: _replace(f, "network/layers/1/weight", np.ones(4))),
    "no rows": _edit(lambda f: _replace(f, "network/layers/1/weight", np.ones((0, 4)))),
    "bias too short": _edit(lambda f: _replace(f, "network/layers/1/bias", np.ones(2))),
    "layers do not join": _edit(lambda f: _replace(f, "network/layers/2/weight", np.ones((2, 9)))),
    "not finite": _edit(lambda f: _replace(f, "network/layers/1/bias", [1.0, np.nan, 1.0])),
    "odd dtype": _edit(lambda f: f.attrs.__setitem__("dtype", "pickle")),
    "no step": _edit(lambda f: f.attrs.__delitem__("step")),
}
STATE_DAMAGE = {
    "none": _edit(lambda f: f.__delitem__("state")),
    "a cycle": _edit(_cycle),
    "huge": _edit(_huge),
    "foreign": _edit(lambda f: _replace(f, "state/b", np.ones(3))),
    "a link": _edit(lambda f: f["state"].__setitem__("x", h5py.ExternalLink("/etc/passwd", "/"))),
    "soft link": _edit(lambda f: f["state"].__setitem__("x", h5py.SoftLink("/network"))),
    "text": _edit(lambda f: _replace(f, "state/b", "words")),
    "a type": _edit(lambda f: f["state"].__setitem__("x", np.dtype("f8"))),
    "a list with a gap": _edit(lambda f: f["state/a"].__delitem__("0")),
    "an odd kind": _edit(lambda f: f["state/b"].attrs.__setitem__("kind", "pickle")),
    "a scalar that is none": _edit(lambda f: f["state/b"].attrs.__setitem__("kind", "int")),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_networks_are_data_errors(saved, damage):
    damage(saved)
    with pytest.raises(DataError) as error:
        checkpoint.load_network(saved)
    assert "step-000007.h5" in str(error.value)


@pytest.mark.parametrize("damage", STATE_DAMAGE.values(), ids=STATE_DAMAGE)
def test_damaged_states_are_data_errors(saved, damage):
    damage(saved)
    with pytest.raises(DataError) as error:
        checkpoint.load_state(saved)
    assert "step-000007.h5" in str(error.value)


def test_files_cut_anywhere_are_data_errors(saved):
    """What a crash of the machine leaves: a file too short, or of the right size with an end of
    zeros.
    """
    whole = saved.read_bytes()
    for length in np.random.default_rng(1).integers(0, len(whole) - 100, 60):
        for broken in (whole[:length], whole[:length] + bytes(len(whole) - length)):
            saved.write_bytes(broken)
            for read in (checkpoint.load_network, checkpoint.load_state):
                with pytest.raises(DataError, match=r"step-000007\.h5"):
                    read(saved)


def test_every_flipped_bit_is_noticed(saved):
    """In the block of the digest and anywhere behind it, before HDF5 opens the file."""
    whole, draw = saved.read_bytes(), np.random.default_rng(2)
    places = [*range(0, 512, 3), *draw.integers(512, len(whole), 100)]
    for place in places:
        broken = bytearray(whole)
        broken[place] ^= 1 << int(draw.integers(8))
        saved.write_bytes(broken)
        assert "damaged" in checkpoint.damage(saved), place
    saved.write_bytes(whole)
    assert checkpoint.damage(saved) is None


def test_a_checkpoint_is_an_hdf5_file_with_a_digest_that_others_can_compute(saved):
    content = saved.read_bytes()
    first, remark = content[:512].decode().split("\n")[:2]
    digest = hashlib.sha256(f"{remark}\n".encode() + content[512:]).hexdigest()
    assert first == f"gnopt: sha256 {digest}"
    assert h5py.is_hdf5(saved)
    with h5py.File(saved) as file:
        assert file.attrs["step"] == 7


def test_a_change_by_another_program_is_noticed(saved):
    with h5py.File(saved, "a") as file:
        file["network/layers/1/bias"][0] += 1
    assert "not what was written" in checkpoint.damage(saved)


@pytest.fixture
def notes():
    found = []
    with shown_by(found.append):
        yield found


def test_a_file_without_a_digest_is_read_with_a_note(saved, notes):
    saved.write_bytes(saved.read_bytes()[512:])
    assert checkpoint.load_network(saved).step == 7
    assert checkpoint.load_state(saved)["a"] == [1, 2.0, None]
    assert len(notes) == 1
    assert "step-000007.h5 carries no digest" in notes[0]


def test_a_file_on_which_hdf5_crashes_is_damaged(saved, monkeypatch):
    """HDF5 reads a file without a digest in another process first."""
    saved.write_bytes(saved.read_bytes()[512:])
    monkeypatch.setattr("gnopt.sealed._TRIAL", "import os; os.abort()")
    assert "HDF5 crashes on it" in checkpoint.damage(saved)


def test_misfit_names_the_layer(saved):
    found = checkpoint.load_network(saved)
    checkpoint.check_fits(found, [4, 3, 2], saved)
    with pytest.raises(
        DataError, match=r"layers/1/weight: found shape \(3, 4\), expected \(5, 4\)"
    ):
        checkpoint.check_fits(found, [4, 5, 2], saved)
    with pytest.raises(DataError, match="found 2 layers, expected 1"):
        checkpoint.check_fits(found, [4, 2], saved)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(OSError, match="No space left"), replacement(path) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_pointers_and_pruning(tmp_path):
    paths = [tmp_path / checkpoint.checkpoint_name(step) for step in (0, 10, 20, 25, 30)]
    for path in paths:
        path.touch()
    (tmp_path / "step-notes.h5").touch()
    (tmp_path / ".tmp-1-step-000040.h5").touch()
    assert checkpoint.listed(tmp_path) == paths
    assert checkpoint.pointed(tmp_path, "latest") is None
    checkpoint.point(tmp_path, "latest", paths[-1])
    checkpoint.point(tmp_path, "best", paths[1])
    assert checkpoint.pointed(tmp_path, "best") == paths[1]
    checkpoint.prune(tmp_path, 2, 10, paths[0])
    assert checkpoint.listed(tmp_path) == [paths[0], paths[1], paths[2], paths[4]]
    for text in ("../x", "step-000099.h5", "", "\0", "step-notes.h5"):
        (tmp_path / "latest").write_text(text)
        assert checkpoint.pointed(tmp_path, "latest") is None
    (tmp_path / "latest").write_bytes(b"\xff\xfe")
    assert checkpoint.pointed(tmp_path, "latest") is None

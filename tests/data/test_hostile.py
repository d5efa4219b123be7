"""Files that cannot be used: each is one DataError with the file, what was found and what was
expected.
"""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from gnopt.data.formats import ImportSettings
from gnopt.data.importing import import_data
from gnopt.data.info import describe_file
from gnopt.data.make_faces import load_pictures
from gnopt.data.options import DataSettings
from gnopt.data.source import open_data
from gnopt.errors import DataError
from gnopt.training import checkpoint

GOOD = np.arange(24.0).reshape(8, 3)


def build(path: Path, **arrays) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name.replace("__", "/")] = array


def with_scale(scale):
    def make(path: Path) -> None:
        build(path, x=GOOD)
        with h5py.File(path, "r+") as file:
            file["x"].attrs["scale"] = scale

    return make


def with_value(row: int, column: int, value: float, name: str = "x"):
    def make(path: Path) -> None:
        array = GOOD.copy()
        array[row, column] = value
        build(path, **{"x": GOOD, "y": GOOD, name: array})

    return make


def arrays(**named):
    return lambda path: build(path, **named)


def linked(link):
    def make(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file["x"] = link
            file["xx"] = GOOD

    return make


def raw(content: bytes):
    return lambda path: path.write_bytes(content)


def truncated(path: Path) -> None:
    build(path, x=np.zeros((500, 50)))
    path.write_bytes(path.read_bytes()[:4000])


def damaged_chunk(path: Path) -> None:
    with h5py.File(path, "w") as file:
        noise = np.random.default_rng(0).random((400, 30))
        file.create_dataset("x", data=noise, chunks=(100, 30), compression="gzip")
        info = file["x"].id.get_chunk_info(2)
    content = bytearray(path.read_bytes())
    content[info.byte_offset : info.byte_offset + info.size] = b"\xff" * info.size
    path.write_bytes(bytes(content))


def virtual_without_source(path: Path) -> None:
    layout = h5py.VirtualLayout((4, 2), "f8")
    layout[:] = h5py.VirtualSource("gone.h5", "x", (4, 2))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("x", layout)


def null_dataspace(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = h5py.Empty("f8")


def loop(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = h5py.SoftLink("/other")
        file["other"] = h5py.SoftLink("/x")


RECORD = np.zeros(4, dtype=[("a", "f4"), ("b", "i4")])
CASES = {
    "bytes": (raw(b"\x01\x02a,b\n1,2\n"), {}, ["not an HDF5 file", "gnopt dataset import"]),
    "empty file": (raw(b""), {}, ["empty"]),
    "signature alone": (raw(b"\x89HDF\r\n\x1a\n"), {}, ["damaged or truncated"]),
    "truncated": (truncated, {}, ["truncated"]),
    "directory": (lambda path: path.mkdir(), {}, ["is a directory", "expected an HDF5 file"]),
    "missing file": (lambda path: None, {}, ["no such file"]),
    "nothing in it": (arrays(), {}, ["no dataset /x", "no dataset at all"]),
    "missing dataset": (
        arrays(images=GOOD, xs=GOOD),
        {},
        ["no dataset /x", "images, xs", "did you mean 'xs'?"],
    ),
    "missing targets": (
        arrays(x=GOOD, labels=GOOD),
        {"targets": "label"},
        ["/label", "did you mean 'labels'?"],
    ),
    "empty name": (arrays(x=GOOD), {"inputs": ""}, ["no dataset /;", "holds x"]),
    "a group": (arrays(data__x=GOOD), {"inputs": "data"}, ["/data is a group", "data/x"]),
    "group without x": (arrays(train__stuff=GOOD), {}, ["/train/x", "train/stuff"]),
    "validation group without x": (
        arrays(train__x=GOOD, validation__z=GOOD),
        {},
        ["/validation/x"],
    ),
    "test group without x": (arrays(train__x=GOOD, test__z=GOOD), {}, ["/test/x"]),
    "no such validation group": (
        arrays(train__x=GOOD, held__x=GOOD),
        {"validation": "helt"},
        ["'helt'", "held, train", "did you mean 'held'?"],
    ),
    "validation group of a flat file": (arrays(x=GOOD), {"validation": "held"}, ["no groups"]),
    "fraction leaves no rows": (arrays(x=GOOD[:1]), {}, ["0.1 of 1 rows", "smaller fraction"]),
    "scalar": (arrays(x=3.0), {}, ["single value"]),
    "null": (null_dataspace, {}, ["null dataspace"]),
    "no rows": (arrays(x=np.zeros((0, 3))), {}, ["no rows", "(0, 3)"]),
    "no columns": (arrays(x=np.zeros((4, 0))), {}, ["no columns"]),
    "rows differ": (arrays(x=GOOD, y=GOOD[:5]), {"targets": "y"}, ["/y has 5 rows", "expected 8"]),
    "widths differ": (
        arrays(train__x=GOOD, test__x=GOOD[:, :2]),
        {},
        ["/test/x", "rows of 2", "expected 3"],
    ),
    "target widths differ": (
        arrays(train__x=GOOD, train__y=GOOD, test__x=GOOD, test__y=GOOD[:, :2]),
        {"targets": "y"},
        ["/test/y", "expected 3"],
    ),
    "text": (
        arrays(x=np.array([b"a", b"b"])),
        {},
        ["text", "expected integers, floats or booleans"],
    ),
    "objects": (arrays(x=["a", "b"]), {}, ["text", "expected integers"]),
    "records": (arrays(x=RECORD), {}, ["no column is left"]),
    "complex": (arrays(x=GOOD * 1j), {}, ["complex"]),
    "text targets": (arrays(x=GOOD, y=["a"] * 8), {"targets": "y"}, ["/y holds text"]),
    "nan": (with_value(5, 2, np.nan), {}, ["/x", "row 5, column 2", "nan", "finite"]),
    "inf": (with_value(0, 1, -np.inf), {}, ["row 0, column 1", "-inf"]),
    "nan held out": (with_value(7, 0, np.nan), {}, ["row 7, column 0"]),
    "nan target": (with_value(3, 1, np.nan, "y"), {"targets": "y"}, ["/y", "row 3, column 1"]),
    "too large for float32": (
        with_value(2, 2, 1e200),
        {},
        ["row 2, column 2", "1e+200", "float64"],
    ),
    "scale nan": (with_scale(np.nan), {}, ["scale is nan", "finite"]),
    "scale zero": (with_scale(0), {}, ["scale is 0"]),
    "scale inf": (with_scale(np.inf), {}, ["scale is inf"]),
    "scale array": (with_scale([1.0, 2.0]), {}, ["scale is an array", "one number"]),
    "scale text": (with_scale("1/255"), {}, ["scale is", "1/255", "one number"]),
    "soft link": (linked(h5py.SoftLink("/nowhere")), {}, ["link to /nowhere"]),
    "external link": (linked(h5py.ExternalLink("gone.h5", "/x")), {}, ["link to /x of gone.h5"]),
    "loop of links": (loop, {}, ["/x is a link"]),
    "virtual dataset": (virtual_without_source, {}, ["virtual dataset over gone.h5"]),
    "damaged chunk": (damaged_chunk, {}, ["/x", "rows", "damaged"]),
    "name with a null byte": (arrays(x=GOOD), {"inputs": "a\0b"}, ["no dataset"]),
}


@pytest.mark.parametrize("case", CASES)
def test_hostile_file(tmp_path, case):
    make, settings, words = CASES[case]
    path = tmp_path / "data.h5"
    make(path)
    with pytest.raises(DataError) as caught:
        open_data(DataSettings(file=str(path), **settings), seed=0, dtype="float32")
    message = str(caught.value)
    assert "data.h5" in message
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("reach", ["batch", "rows_at", "standardize"])
def test_a_bad_number_out_of_core_is_met_when_its_block_is_read(tmp_path, reach):
    x = np.zeros((1000, 10))
    x[777, 3] = np.inf
    build(tmp_path / "data.h5", x=x)
    with (
        pytest.raises(DataError, match="row 777, column 3"),
        open_data(
            DataSettings(
                file=str(tmp_path / "data.h5"),
                validation=0,
                memory="8KB",
                standardize=reach == "standardize",
            ),
            seed=0,
            dtype="float32",
        ) as data,
    ):
        if reach == "batch":
            data.train.batch(0, 1000)
        else:
            assert data.train.rows_at(0, 700)[0].sum() == 0
            data.train.rows_at(700, 800)


def test_a_near_name_of_a_missing_file(tmp_path):
    build(tmp_path / "mnist.h5", x=GOOD)
    with pytest.raises(DataError, match=r"did you mean 'mnist.h5'"):
        open_data(DataSettings(file=str(tmp_path / "minst.h5")), seed=0, dtype="float32")
    with pytest.raises(DataError, match="nor the folder"):
        open_data(DataSettings(file=str(tmp_path / "gone" / "x.h5")), seed=0, dtype="float32")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_permission_denied(tmp_path):
    build(tmp_path / "data.h5", x=GOOD)
    (tmp_path / "data.h5").chmod(0)
    with pytest.raises(DataError, match="Permission denied"):
        open_data(DataSettings(file=str(tmp_path / "data.h5")), seed=0, dtype="float32")


def test_an_unreadable_file_whoever_asks(tmp_path, monkeypatch):
    build(tmp_path / "data.h5", x=GOOD)

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DataError, match=r"data.h5: cannot be read: Permission denied"):
        open_data(DataSettings(file=str(tmp_path / "data.h5")), seed=0, dtype="float32")


def test_links_that_work_are_followed(tmp_path):
    build(tmp_path / "real.h5", x=GOOD)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"] = h5py.ExternalLink("real.h5", "/x")
        file["soft"] = h5py.SoftLink("/x")
    for name in ("x", "soft"):
        with open_data(
            DataSettings(file=str(tmp_path / "data.h5"), inputs=name, follow_links=True),
            seed=0,
            dtype="float32",
        ) as data:
            assert data.train.rows == 7


# ---- links to other files ------------------------------------------------------------------------


def external_storage(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = np.ones((8, 2))
        file.create_dataset("inner/y", (8,), "u1", external=[(str(secret), 0, 8)])


def external_link(path: Path, secret: Path) -> None:
    build(path.with_name("other.h5"), y=np.ones(8))
    with h5py.File(path, "w") as file:
        file["x"] = np.ones((8, 2))
        file["y"] = h5py.ExternalLink("other.h5", "/y")
        file["soft"] = h5py.SoftLink("/y")


def virtual(path: Path, secret: Path) -> None:
    build(path.with_name("other.h5"), y=np.ones(8))
    layout = h5py.VirtualLayout((8,), "f8")
    layout[:] = h5py.VirtualSource(str(path.with_name("other.h5")), "y", (8,))
    with h5py.File(path, "w") as file:
        file["x"] = np.ones((8, 2))
        file.create_virtual_dataset("y", layout)


LINKED = [external_storage, external_link, virtual]


@pytest.mark.parametrize("make", LINKED, ids=lambda make: make.__name__)
def test_values_in_other_files_are_refused_at_every_entry(tmp_path, make):
    secret = tmp_path / "secret.txt"
    secret.write_text("12345678 and more")
    path, mat = tmp_path / "d.h5", tmp_path / "m.mat"
    make(path, secret)
    mat.write_bytes(path.read_bytes())
    settings = DataSettings(file=str(path), targets="inputs")
    entries = [
        lambda: open_data(settings, seed=0, dtype="float32"),
        lambda: describe_file(path),
        lambda: import_data(mat, tmp_path / "i.h5", ImportSettings(inputs="x")),
        lambda: load_pictures(path),
        lambda: checkpoint.load_network(path),
        lambda: checkpoint.load_state(path),
    ]
    for entry in entries:
        with pytest.raises(DataError, match=r"refused, because .*follow_links=true"):
            entry()
    assert not (tmp_path / "i.h5").exists()
    allowed = settings.changed(follow_links=True)
    with open_data(allowed, seed=0, dtype="float32") as data:
        assert data.train.rows == 7


def test_a_virtual_dataset_over_its_own_file_is_no_link(tmp_path):
    path = tmp_path / "d.h5"
    layout = h5py.VirtualLayout((8, 2), "f8")
    layout[:] = h5py.VirtualSource(".", "raw", (8, 2))
    with h5py.File(path, "w") as file:
        file["raw"] = np.arange(16.0).reshape(8, 2)
        file.create_virtual_dataset("x", layout)
    with open_data(DataSettings(file=str(path)), seed=0, dtype="float32") as data:
        assert data.train.rows == 7

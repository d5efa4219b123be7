"""HDF5 files as MATLAB, Octave, compressors and other programs write them."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.sparse

from gnopt.data import filters
from gnopt.data.classes import LabelRule
from gnopt.data.info import describe_file
from gnopt.data.options import DataSettings
from gnopt.data.source import open_data
from gnopt.errors import DataError

ROWS = 30
X = np.random.default_rng(0).normal(size=(ROWS, 4))
SOFTMAX = LabelRule("softmax_cross_entropy", np.inf)
HEAD = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM"


def matlab(path: Path, header: bool = True, **arrays) -> h5py.File:
    """Open a new file as MATLAB 7.3 writes them, with these arrays in it."""
    file = h5py.File(path, "w", userblock_size=512 if header else 0)
    for name, (array, kind) in arrays.items():
        file[name] = np.asarray(array).T
        if kind:
            file[name].attrs["MATLAB_class"] = np.bytes_(kind)
    return file


def cells(file: h5py.File, name: str, values, kind: str) -> None:
    """Write a column of cells, (1, rows) in the file, whose contents stand below #refs#."""
    references = []
    for k, value in enumerate(values):
        file[f"#refs#/{name}{k}"] = value
        file[f"#refs#/{name}{k}"].attrs["MATLAB_class"] = np.bytes_(kind)
        references.append(file[f"#refs#/{name}{k}"].ref)
    file.create_dataset(name, data=np.array([references], dtype=h5py.ref_dtype))
    file[name].attrs["MATLAB_class"] = np.bytes_("cell")


def utf16(word: str) -> np.ndarray:
    return np.frombuffer(word.encode("utf-16-le"), "<u2")[:, None]


def finished(file: h5py.File) -> Path:
    path, header = Path(file.filename), file.userblock_size
    file.close()
    if header:
        with open(path, "r+b") as raw:
            raw.write(HEAD)
    return path


def rows(path: Path, labels=None, **settings) -> tuple[np.ndarray, np.ndarray]:
    settings = {
        "file": str(path),
        "targets": "y",
        "validation": 0,
        "standardize": False,
        **settings,
    }
    rule = {} if labels is None else {"labels": labels}
    with open_data(DataSettings(**settings), seed=0, dtype="float64", **rule) as data:
        return data.train.rows_at(0, ROWS)


@pytest.mark.parametrize(("header", "kind"), [(True, ""), (False, "double"), (True, "double")])
@pytest.mark.parametrize("memory", ["auto", "200B"])
@pytest.mark.parametrize("wide", [False, True])
def test_arrays_of_matlab_have_their_rows_first(tmp_path, header, kind, memory, wide):
    y = np.arange(ROWS) % 3 + 1.0
    y = y[None] if wide else y[:, None]
    file = matlab(tmp_path / "m.mat", header, x=(X, kind), y=(y, kind))
    x, targets = rows(finished(file), memory=memory)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(targets.ravel(), y.ravel())
    np.testing.assert_array_equal(rows(tmp_path / "m.mat", SOFTMAX)[1], np.arange(ROWS) % 3)


def test_structs_logicals_and_pictures_of_matlab(tmp_path):
    pictures = np.random.default_rng(1).integers(0, 256, (ROWS, 5, 6), dtype=np.uint8)
    file = matlab(
        tmp_path / "m.mat", **{"s/a/pics": (pictures, "uint8"), "s/a/on": (X > 0, "logical")}
    )
    x, y = rows(finished(file), inputs="s/a/pics", targets="s/a/on")
    np.testing.assert_array_equal(np.rint(x / x.max() * pictures.max()), pictures.reshape(ROWS, 30))
    np.testing.assert_array_equal(y, X > 0)


def test_words_of_matlab_are_labels(tmp_path):
    words = ["cat", "dög", "eel"] * (ROWS // 3)
    file = matlab(tmp_path / "m.mat", x=(X, "double"))
    cells(file, "y", map(utf16, words), "char")
    file["text"] = np.hstack([utf16(word) for word in words])
    file["text"].attrs["MATLAB_class"] = np.bytes_("char")
    path = finished(file)
    for name in ("y", "text"):
        np.testing.assert_array_equal(rows(path, SOFTMAX, targets=name)[1], np.arange(ROWS) % 3)
    assert [entry["path"] for entry in describe_file(path)["datasets"]] == ["text", "x", "y"]


def test_cells_of_one_shape_are_rows_and_sparse_matrices_are_read(tmp_path):
    sparse = scipy.sparse.random_array((ROWS, 7), density=0.2, rng=2, format="csc")
    file = matlab(tmp_path / "m.mat")
    cells(file, "x", [row.reshape(2, 2) for row in X], "double")
    group = file.create_group("y")
    group.attrs["MATLAB_sparse"] = ROWS
    group["data"], group["ir"], group["jc"] = sparse.data, sparse.indices, sparse.indptr
    x, y = rows(finished(file))
    np.testing.assert_array_equal(x.reshape(ROWS, 2, 2), X.reshape(ROWS, 2, 2).transpose(0, 2, 1))
    np.testing.assert_array_equal(y, sparse.toarray())


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        (
            {"MATLAB_class": b"table", "MATLAB_object_decode": 3},
            "an object of MATLAB's class table",
        ),
        ({"MATLAB_class": b"double", "MATLAB_empty": 1}, "empty"),
        ({"MATLAB_class": b"function_handle"}, "an object of MATLAB's class function_handle"),
    ],
)
def test_objects_of_matlab_are_refused_by_what_they_are(tmp_path, attributes, found):
    with h5py.File(tmp_path / "m.mat", "w") as file:
        file["x"] = np.ones((1, 6), "u4")
        file["x"].attrs.update(attributes)
    with pytest.raises(DataError, match=f"/x is {found}; expected numbers"):
        rows(tmp_path / "m.mat", targets="inputs")


def test_octave_matrices(tmp_path):
    with h5py.File(tmp_path / "o.h5", "w") as file:
        for name, array in (("x", X), ("y", X[:, :1])):
            group = file.create_group(name)
            group.attrs["OCTAVE_NEW_FORMAT"] = np.uint8(1)
            group["value"], group["type"] = array.T, np.bytes_("matrix")
    x, y = rows(tmp_path / "o.h5")
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, X[:, :1])


@pytest.mark.parametrize("memory", ["auto", "250B"])
def test_fields_of_records_are_columns(tmp_path, memory):
    records = np.zeros(ROWS, [("v", "f4", (4,)), ("in", [("kind", "S3"), ("n", ">i2")])])
    records["v"], records["in"]["n"] = X, np.arange(ROWS)
    records["in"]["kind"] = np.array([b"cat", b"dog"])[np.arange(ROWS) % 2]
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file["data/table"] = records
    inside = {"inputs": "data/table/v", "memory": memory}
    x, y = rows(tmp_path / "r.h5", targets="data/table/in/n", **inside)
    np.testing.assert_allclose(x, X.astype("f4"))
    np.testing.assert_array_equal(y, np.arange(ROWS))
    labels = rows(tmp_path / "r.h5", SOFTMAX, targets="data/table/in/kind", **inside)[1]
    np.testing.assert_array_equal(labels, np.arange(ROWS) % 2)


def odd_type(bits: int) -> h5py.h5t.TypeFloatID:
    """A float type that NumPy does not have: quadruple precision, or bfloat16."""
    kind = h5py.h5t.IEEE_F64LE.copy()
    if bits == 128:
        kind.set_size(16)
        kind.set_precision(128)
        kind.set_fields(127, 112, 15, 0, 112)
        kind.set_ebias(16383)
    else:
        kind = h5py.h5t.IEEE_F32LE.copy()
        kind.set_fields(15, 7, 8, 0, 7)
        kind.set_precision(16)
        kind.set_size(2)
        kind.set_ebias(127)
    return kind


@pytest.mark.parametrize("bits", [16, 128])
def test_types_that_numpy_lacks_are_converted_by_hdf5(tmp_path, bits):
    values = np.rint(8 * X) / 8
    with h5py.File(tmp_path / "t.h5", "w") as file:
        space = h5py.h5s.create_simple(X.shape)
        dataset = h5py.h5d.create(file.id, b"x", odd_type(bits), space)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, values, h5py.h5t.NATIVE_DOUBLE)
        file["plain"] = X
    x, _ = rows(tmp_path / "t.h5", targets="inputs")
    np.testing.assert_allclose(x, values, rtol=0.01)
    plain, odd = describe_file(tmp_path / "t.h5")["datasets"]
    assert plain["max"] == X.max()
    if bits == 128:  # newer versions of h5py read the short one by themselves
        assert odd["note"] == "of a type that NumPy does not have, as float64; read as 30x4"


def test_a_filter_from_hdf5plugin_is_used(tmp_path):
    plugin = pytest.importorskip("hdf5plugin")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.create_dataset("x", data=X, chunks=(7, 4), **plugin.Zstd())
    np.testing.assert_array_equal(rows(tmp_path / "c.h5", targets="inputs")[0], X)


@pytest.mark.parametrize("installed", [False, True])
def test_a_missing_filter_is_named_with_what_to_install(tmp_path, monkeypatch, installed):
    number = 32999  # no plugin has it
    monkeypatch.setattr(filters, "_NAMES", {number: "blosc9"})
    monkeypatch.setattr(filters, "_bring_more", lambda: installed)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((10, 3))
    properties.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (2, 2))
    with h5py.File(tmp_path / "f.h5", "w") as file:
        space = h5py.h5s.create_simple((10, 3))
        h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, properties)
    with pytest.raises(DataError) as caught:
        rows(tmp_path / "f.h5", targets="inputs")
    remedy = "h5repack" if installed else r"pip install 'gnopt[filters]'"
    assert "compressed by blosc9 (filter 32999), which this HDF5 does not have" in str(caught.value)
    assert remedy in str(caught.value)


def test_rows_of_different_lengths_and_references_are_told(tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_dataset("x", (3,), h5py.vlen_dtype(np.float32))
        file["r"] = np.array([file["x"].ref], dtype=h5py.ref_dtype)
    for name, found in (("x", "rows of different lengths"), ("r", "references")):
        with pytest.raises(DataError, match=found):
            rows(tmp_path / "v.h5", inputs=name, targets="inputs")


def test_packed_numbers_of_netcdf_are_unpacked(tmp_path):
    packed = np.arange(4 * ROWS, dtype=np.int16).reshape(ROWS, 4)
    with h5py.File(tmp_path / "n.nc", "w") as file:
        file["x"] = packed
        file["x"].attrs.update(scale_factor=np.array([0.01]), add_offset=20.0, _FillValue=-9)
    x, _ = rows(tmp_path / "n.nc", targets="inputs")
    np.testing.assert_allclose(x, packed * 0.01 + 20)
    with h5py.File(tmp_path / "n.nc", "r+") as file:
        file["x"][7, 2] = -9
    with pytest.raises(DataError, match=r"/x: row 7, column 2 .* is nan"):
        rows(tmp_path / "n.nc", targets="inputs")


@pytest.mark.parametrize("by", ["csr", "csc"])
def test_sparse_matrices_and_categories_of_anndata(tmp_path, by):
    matrix = scipy.sparse.random_array((ROWS, 6), density=0.3, rng=3, format=by)
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        group = file.create_group("X")
        group.attrs.update({"encoding-type": f"{by}_matrix", "shape": matrix.shape})
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(matrix, name)
        kinds = file.create_group("obs/kind")
        kinds.attrs["encoding-type"] = "categorical"
        kinds["codes"], kinds["categories"] = np.arange(ROWS) % 2, [b"T cell", b"B cell"]
    x, y = rows(tmp_path / "a.h5ad", SOFTMAX, inputs="X", targets="obs/kind")
    np.testing.assert_array_equal(x, matrix.toarray())
    np.testing.assert_array_equal(y, 1 - np.arange(ROWS) % 2)  # in the order of the words


def test_data_points_along_the_last_axis_get_a_hint(tmp_path):
    with h5py.File(tmp_path / "j.h5", "w") as file:
        file["x"], file["y"] = X.T, np.arange(ROWS)
    with pytest.raises(DataError, match="expected 4, as /x; if data points are along the last"):
        rows(tmp_path / "j.h5")


@pytest.mark.parametrize("kind", ["default", "class", "old"])
def test_the_default_signal_of_nexus_is_the_inputs(tmp_path, kind):
    with h5py.File(tmp_path / "n.nxs", "w") as file:
        file["entry/detector/counts"] = np.arange(4 * ROWS, dtype=">u2").reshape(ROWS, 4)
        data = file.create_group("entry/data")
        data["counts"] = h5py.SoftLink("/entry/detector/counts")
        data["axis"], data.attrs["NX_class"] = np.arange(4), "NXdata"
        file["entry/labels"] = np.arange(ROWS) % 2
        if kind == "old":
            data["counts"].attrs["signal"] = 1
        else:
            data.attrs["signal"] = "counts"
        if kind == "default":
            file.attrs["default"], file["entry"].attrs["default"] = "entry", "data"
    path = tmp_path / "n.nxs"
    for inputs in ("x", "entry/data"):
        x, y = rows(path, SOFTMAX, inputs=inputs, targets="entry/labels")
        np.testing.assert_array_equal(x, np.arange(4 * ROWS).reshape(ROWS, 4))
        np.testing.assert_array_equal(y, np.arange(ROWS) % 2)

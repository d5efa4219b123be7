"""Arrays in NPZ, MAT and HDF5 files: found by name, words as labels, and the rest told apart."""

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from gnopt.data.formats import ImportSettings
from gnopt.data.importing import import_data
from gnopt.data.layout import Pair, find_layout
from gnopt.errors import DataError

ROWS = 12
X = np.random.default_rng(0).normal(size=(ROWS, 5))
Y = np.arange(ROWS) % 3
WORDS = np.array(["cat", "dog", "eel"])[Y]


def imported(source: Path, *names, **options) -> tuple[dict, list[str]]:
    """The arrays of the imported file by path, with the attributes of y, and what was said."""
    notes: list[str] = []
    out = source.with_name("out.h5")
    import_data(source, out, ImportSettings(*names), note=notes.append, overwrite=True, **options)
    found: dict = {}
    with h5py.File(out) as file:
        file.visititems(
            lambda name, node: found.update({name: node[()]}) if hasattr(node, "shape") else None
        )
        found["classes"] = list(file["y"].attrs.get("classes", [])) if "y" in file else []
        found["scale"] = [x.attrs.get("scale", 1) for x in file.values() if hasattr(x, "shape")]
    return found, notes


def struct(**fields) -> dict:
    return {"dataset": {"train": fields}}


def cell(values) -> np.ndarray:
    cells = np.empty((len(values), 1), dtype=object)
    cells[:, 0] = values
    return cells


def mat(path: Path, **variables) -> Path:
    scipy.io.savemat(path, variables)
    return path


def test_fields_of_structs_are_reached_by_their_path(tmp_path):
    path = mat(tmp_path / "s.mat", **struct(images=X, labels=Y[:, None] + 1.0), note="hello")
    for names in (("dataset.train.images", "dataset.train.labels"), ()):
        found, notes = imported(path, *names)
        x, y = (found.get(name, found.get(f"train/{name}")) for name in "xy")
        np.testing.assert_array_equal(x, X)
        np.testing.assert_array_equal(y, Y + 1)
        assert "s.mat: left out: note (the text 'hello')" in notes


@pytest.mark.parametrize(
    "y", [cell(WORDS.tolist()), WORDS, np.array([w.ljust(9) for w in WORDS])], ids=str
)
def test_words_of_mat_files_are_labels(tmp_path, y):
    found, _ = imported(mat(tmp_path / "w.mat", x=X, y=y))
    np.testing.assert_array_equal(found["y"], Y)
    assert found["classes"] == ["cat", "dog", "eel"]


def test_cells_of_one_shape_are_rows_and_others_are_named(tmp_path):
    cells = cell([row[:4].reshape(2, 2) for row in X])
    odd = cell([np.ones(k + 1) for k in range(ROWS)])
    found, notes = imported(
        mat(tmp_path / "c.mat", x=cells, odd=odd, both=np.array([{"a": 1}] * 2))
    )
    np.testing.assert_array_equal(found["x"], X[:, :4].reshape(ROWS, 2, 2))
    assert notes[0].startswith("c.mat: left out: odd (a cell array of several kinds or sizes)")
    with pytest.raises(DataError, match="odd is a cell array of several kinds or sizes; expected"):
        imported(tmp_path / "c.mat", "x", "odd")


def test_data_points_along_the_last_axis_are_turned(tmp_path):
    pictures = np.random.default_rng(1).integers(0, 256, (4, 5, 3, ROWS), dtype=np.uint8)
    found, notes = imported(mat(tmp_path / "svhn.mat", X=pictures, y=Y[:, None] + 1))
    np.testing.assert_array_equal(found["x"], np.moveaxis(pictures, -1, 0))
    assert "data points are along the last axis" in notes[0]
    found, _ = imported(mat(tmp_path / "columns.mat", x=X.T, y=np.eye(3)[Y].T))
    np.testing.assert_array_equal(found["x"], X)
    np.testing.assert_array_equal(found["y"], np.eye(3)[Y])


@pytest.mark.parametrize("dtype", ["U3", "S3", "bool", ">f4", "i8"])
@pytest.mark.parametrize("shape", [(ROWS,), (ROWS, 1)])
def test_labels_of_every_type_from_a_file_of_their_own(tmp_path, dtype, shape):
    labels = WORDS.astype(dtype) if dtype[0] in "US" else (Y % 2).astype(dtype)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", labels.reshape(shape))
    found, _ = imported(tmp_path / "x.npy", labels=tmp_path / "y.npy")
    np.testing.assert_array_equal(found["y"], Y if dtype[0] in "US" else Y % 2)
    assert found["classes"] == (["cat", "dog", "eel"] if dtype[0] in "US" else [])


def test_arrays_of_hdf5_are_imported_words_included(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["deep/x"], file["deep/kind"], file["one"] = X, WORDS.astype("S3"), 3.0
        file["deep/x"].attrs["scale"] = 0.5
    found, notes = imported(tmp_path / "a.h5", "deep/x", "deep.kind")
    np.testing.assert_array_equal(found["x"], X)
    assert found["classes"] == ["cat", "dog", "eel"]
    assert 0.5 in found["scale"]
    assert notes == ["a.h5: left out: one (a single value)"]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["x_train", "y_train", "x_test", "y_test"], ["train", "test"]),
        (["XTrain", "YTrain", "XValidation", "YValidation"], ["train", "validation"]),
        (["train_images", "train_labels", "val_images", "val_labels"], ["train", "validation"]),
        (
            ["train_set_x", "train_set_y", "test_set_x", "test_set_y", "list_classes"],
            ["train", "test"],
        ),
        (["Xtrain", "ytrain", "Xtest", "ytest"], ["train", "test"]),
        (["training/data", "training/labels", "test/data", "test/labels"], ["train", "test"]),
        (["x", "y", "x_test", "y_test"], ["test"]),
        (["train", "test"], []),
    ],
)
def test_names_of_others_make_groups(names, groups):
    found = find_layout(names)
    assert list(found) == groups
    assert all(pair.targets is not None for pair in found.values())
    if "train" in groups:
        assert found["train"] == Pair(*names[:2])


def test_all_groups_of_an_npz_are_imported_by_their_names(tmp_path):
    parts = {"train": slice(0, 7), "val": slice(7, 9), "test": slice(9, None)}
    arrays = {f"{name}_x": X[part] for name, part in parts.items()}
    arrays |= {f"{name}_y": Y[part, None] for name, part in parts.items()}
    np.savez(tmp_path / "all.npz", **arrays)
    found, notes = imported(tmp_path / "all.npz")
    for group, part in zip(("train", "validation", "test"), parts.values(), strict=True):
        np.testing.assert_array_equal(found[f"{group}/x"], X[part])
        np.testing.assert_array_equal(found[f"{group}/y"], Y[part])
    assert notes[0] == "train: train_x, train_y; validation: val_x, val_y; test: test_x, test_y"


@pytest.mark.parametrize(
    ("width", "top", "scale"),
    [(784, 255, 1 / 255), (3072, 200, 1 / 255), (784, 9, 1), (785, 255, 1), (16, 255, 1)],
)
def test_flat_pictures_of_bytes_get_their_scale(tmp_path, width, top, scale):
    x = np.random.default_rng(2).integers(0, top + 1, (ROWS, width), dtype=np.uint8)
    x[0, 0] = top
    found, notes = imported(mat(tmp_path / "b.mat", x=x))
    assert found["scale"] == [scale]
    assert bool(notes) == (scale != 1)


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"application/vnd.oasis.opendocument.spreadsheet")
    return path


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("[Content_Types].xml", "word/document.xml"), "is a Word document"),
        (("mimetype", "content.xml"), "is an OpenDocument file; save its table as CSV"),
        (("net/data.pkl", "net/data/0"), "is a file of PyTorch, a pickle"),
        (("metadata.json", "config.json", "model.weights.h5"), "is a model of Keras"),
        (("a/1.png", "b/2.png"), "is a zip archive of pictures; unpack it, and give the folder"),
        (("data.mat", "README"), "is a zip archive with data.mat in it; unpack it"),
        (("a", "b", "c", "d"), r"is a zip archive of other things than arrays \(a, b, c, ...\)"),
        (("x.npy", "x.png"), "is a zip archive of pictures"),
    ],
)
def test_a_zip_archive_is_refused_by_what_it_is(tmp_path, names, found):
    with pytest.raises(DataError, match=found):
        imported(zipped(tmp_path / "a.bin", *names))


def test_a_sparse_matrix_is_not_its_numbers(tmp_path):
    scipy.sparse.save_npz(tmp_path / "s.npz", scipy.sparse.eye_array(4, format="csr"))
    with pytest.raises(DataError, match=r"is a sparse matrix of SciPy; .*toarray\(\)"):
        imported(tmp_path / "s.npz", "data")


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_words_that_numpy_pickled_are_read_and_other_objects_are_not(tmp_path, kind):
    for objects in (WORDS.astype(object), np.array([{}] * ROWS, object)):
        if kind == "npz":
            np.savez(tmp_path / "a.npz", x=X, y=objects)
            options = {}
        else:
            np.save(tmp_path / "y.npy", objects)
            np.save(tmp_path / "a.npy", X)
            options = {"labels": tmp_path / "y.npy"}
        if isinstance(objects[0], str):
            assert imported(tmp_path / f"a.{kind}", **options)[0]["classes"] == [
                "cat",
                "dog",
                "eel",
            ]
        else:
            with pytest.raises(DataError, match="holds pickled objects, which gnopt never loads"):
                imported(tmp_path / f"a.{kind}", **options)


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"BZh91AY&SY\0\0", "is packed by bzip2; unpack it"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "is packed by gzip; unpack it|gzip"),
        (b"7z\xbc\xaf\x27\x1c\0\0", "is a 7z archive"),
        (b"\0" * 257 + b"ustar\0\0", "is a tar archive"),
        (b"%PDF-1.7\n%\xe2\xe3\0", "is a PDF document"),
        (b"SQLite format 3\0\0\1", "is an SQLite database; save a table of it as CSV"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is one picture; give the folder"),
        (b"CDF\x01\0\0\0\0", "is a netCDF 3 file"),
    ],
)
def test_other_files_are_refused_by_what_they_are(tmp_path, head, found):
    (tmp_path / "a.bin").write_bytes(head)
    with pytest.raises(DataError, match=found):
        imported(tmp_path / "a.bin")


def test_test_rows_may_lack_classes_and_share_the_type_of_targets(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=WORDS)
    np.savez(tmp_path / "b.npz", x=X[:2], y=np.array(["eel", "dog"]))
    found, _ = imported(tmp_path / "a.npz", test=tmp_path / "b.npz")
    assert found["test/y"].tolist() == [2, 1]
    np.savez(tmp_path / "b.npz", x=X[:2], y=np.array(["eel", "dgo"]))
    with pytest.raises(DataError, match=r"has classes dgo, which .*did you mean 'dog'"):
        imported(tmp_path / "a.npz", test=tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", x=X, y=Y + 0.0)
    np.savez(tmp_path / "d.npz", x=X[:2], y=[0.5, 1.0])
    found, _ = imported(tmp_path / "c.npz", test=tmp_path / "d.npz")
    assert found["train/y"].dtype == found["test/y"].dtype == np.float64

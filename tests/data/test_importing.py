"""Importing: `open_data` reads what was imported; unusable sources raise one DataError."""

import gzip
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from gnopt.data.formats import ImportSettings
from gnopt.data.hdf5 import datasets
from gnopt.data.importing import import_data
from gnopt.data.info import describe_file
from gnopt.data.options import DataSettings
from gnopt.data.source import open_data
from gnopt.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
CODES = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}


def idx(array: np.ndarray, dtype: str = "u1") -> bytes:
    header = bytes([0, 0, CODES[dtype], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(dtype).tobytes()


def arrays(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: dataset[()] for name, dataset in datasets(file)}


def joined(found: dict[str, np.ndarray], name: str) -> np.ndarray:
    paths = [f"{group}/{name}" for group in ("train", "validation", "test")]
    return np.concatenate([found[path] for path in paths if path in found])


@pytest.fixture
def mnist(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """The four files of a small MNIST, compressed, under their usual names."""
    x, y = (
        RNG.integers(0, 256, (60, 28, 28), dtype=np.uint8),
        RNG.integers(0, 10, 60, dtype=np.uint8),
    )
    for name, array in {
        "train-images-idx3": x[:50],
        "train-labels-idx1": y[:50],
        "t10k-images-idx3": x[50:],
        "t10k-labels-idx1": y[50:],
    }.items():
        (tmp_path / f"{name}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    return tmp_path, x, y


def test_mnist_in_one_command(mnist):
    folder, x, y = mnist
    rows = import_data(
        folder / "train-images-idx3-ubyte.gz",
        folder / "mnist.h5",
        labels=folder / "train-labels-idx1-ubyte.gz",
        validation="10",
        test=folder / "t10k-images-idx3-ubyte.gz",
        test_labels=folder / "t10k-labels-idx1-ubyte.gz",
    )
    assert rows == {"train": 40, "validation": 10, "test": 10}
    found = arrays(folder / "mnist.h5")
    np.testing.assert_array_equal(joined(found, "x"), x)
    np.testing.assert_array_equal(joined(found, "y"), y)
    with open_data(
        DataSettings(file=str(folder / "mnist.h5"), targets="y"),
        seed=0,
        dtype="float64",
    ) as data:
        images, labels = data.validation.rows_at(0, 10)
        np.testing.assert_allclose(images, x[40:50].reshape(10, 784) / 255, rtol=1e-15)
        np.testing.assert_array_equal(labels, y[40:50])


@pytest.mark.parametrize("dtype", CODES)
def test_every_idx_type(tmp_path, dtype):
    array = RNG.integers(0, 100, (7, 3)).astype(dtype)
    (tmp_path / "a-idx").write_bytes(idx(array, dtype))
    assert import_data(tmp_path / "a-idx", tmp_path / "a.h5") == {"all": 7}
    found = arrays(tmp_path / "a.h5")["x"]
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype.newbyteorder("=")


@given(
    rows=st.integers(2, 60),
    width=st.integers(1, 5),
    kept=st.floats(0.1, 0.9),
    seed=st.integers(0, 5),
)
@settings(max_examples=20, deadline=None)
def test_blocks_fall_into_the_right_groups(tmp_path_factory, rows, width, kept, seed):
    folder = tmp_path_factory.mktemp("blocks")
    array = np.random.default_rng(seed).random((rows, width))
    np.save(folder / "a.npy", array)
    train = max(1, int(rows * kept))
    middle = (rows - train) // 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gnopt.data.importing._BLOCK_BYTES", 8 * width * 7)
        import_data(
            folder / "a.npy", folder / "a.h5", split=f"{train}:{middle}:{rows - train - middle}"
        )
    found = arrays(folder / "a.h5")
    np.testing.assert_array_equal(joined(found, "x"), array)
    assert len(found["train/x"]) == train


def test_npz_by_names_with_test_arrays_beside(tmp_path):
    a = {
        "x_train": RNG.integers(0, 9, (20, 4, 4), dtype=np.uint8),
        "y_train": np.arange(20) % 3,
        "x_test": RNG.integers(0, 9, (5, 4, 4), dtype=np.uint8),
        "y_test": np.arange(5) % 3,
    }
    np.savez(tmp_path / "mnist.npz", **a)
    rows = import_data(
        tmp_path / "mnist.npz",
        tmp_path / "m.h5",
        ImportSettings("x_train", "y_train"),
        test_inputs="x_test",
        test_targets="y_test",
        validation="0.25",
    )
    assert rows == {"train": 15, "validation": 5, "test": 5}
    found = arrays(tmp_path / "m.h5")
    np.testing.assert_array_equal(found["test/x"], a["x_test"])
    np.testing.assert_array_equal(found["validation/y"], a["y_train"][15:])
    with h5py.File(tmp_path / "m.h5") as file:
        assert file["train/x"].attrs["scale"] == 1 / 255


def test_names_are_found_where_they_are_clear(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((3, 2)), y=np.arange(3), other=np.ones(2))
    import_data(tmp_path / "a.npz", tmp_path / "a.h5")
    assert set(arrays(tmp_path / "a.h5")) == {"x", "y"}
    np.savez(tmp_path / "b.npz", only=np.ones((3, 2)))
    import_data(tmp_path / "b.npz", tmp_path / "b.h5", scale=0.5)
    with h5py.File(tmp_path / "b.h5") as file:
        assert set(file) == {"x"}
        assert file["x"].attrs["scale"] == 0.5


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_mat_files_of_both_versions_are_read_by_name(tmp_path, version):
    x, y = RNG.random((6, 4)), np.arange(6.0)[:, None] % 3 + 1
    if version == "5":
        sparse = scipy.sparse.csc_matrix(x)
        scipy.io.savemat(tmp_path / "a.mat", {"bdata": x, "labels": y, "row": y.T, "sp": sparse})
    else:
        with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
            file["bdata"], file["labels"], file["row"], file["sp"] = x.T, y.T, y, x.T
        with open(tmp_path / "a.mat", "r+b") as raw:
            raw.write(b"MATLAB 7.3 MAT-file".ljust(512))
    for inputs, targets in (("bdata", "labels"), ("sp", "row")):
        import_data(
            tmp_path / "a.mat", tmp_path / "a.h5", ImportSettings(inputs, targets), overwrite=True
        )
        found = arrays(tmp_path / "a.h5")
        np.testing.assert_array_equal(found["x"], x)
        np.testing.assert_array_equal(found["y"], [1, 2, 3, 1, 2, 3])
        assert found["y"].dtype == np.uint8
    import_data(tmp_path / "a.mat", tmp_path / "t.h5", ImportSettings("bdata", transpose=True))
    np.testing.assert_array_equal(arrays(tmp_path / "t.h5")["x"], x.T)


IRIS = "5.1,3.5,setosa\n4.9,3.0,virginica\n6.3,3.3,setosa\n"


@pytest.mark.parametrize(
    ("text", "targets", "x", "y", "classes"),
    [
        (IRIS, "-1", [[5.1, 3.5], [4.9, 3.0], [6.3, 3.3]], [0, 1, 0], ["setosa", "virginica"]),
        (
            "a,b,kind\n" + IRIS,
            "kind",
            [[5.1, 3.5], [4.9, 3.0], [6.3, 3.3]],
            [0, 1, 0],
            ["setosa", "virginica"],
        ),
        ("7;1;2\n8;3;4\n", "0", [[1, 2], [3, 4]], [7, 8], None),
        (
            "label\tp1\tp2\r\n7\t1\t255\r\n\r\n8\t3\t4\r\n",
            "label",
            [[1, 255], [3, 4]],
            [7, 8],
            None,
        ),
        ('"a, b",c\n1.5,2\n3,4\n', "c", [[1.5], [3]], [2, 4], None),
        ("1,2,0.5\n3,4,1.5\n", "1,2", [[1], [3]], [[2, 0.5], [4, 1.5]], None),
        ("\ufeffx,y\n-1,1\n300,2\n", "y", [[-1], [300]], [1, 2], None),
        ("1\n2\n", None, [[1], [2]], None, None),
    ],
)
def test_csv_becomes_numbers_and_labels(tmp_path, text, targets, x, y, classes):
    for name, content in (("a.csv", text.encode()), ("a.csv.gz", gzip.compress(text.encode()))):
        (tmp_path / name).write_bytes(content)
        import_data(
            tmp_path / name, tmp_path / "a.h5", ImportSettings(targets=targets), overwrite=True
        )
        found = arrays(tmp_path / "a.h5")
        np.testing.assert_array_equal(found["x"], x)
        assert (found["x"].dtype.kind in "ui") == all(
            float(v).is_integer() for row in x for v in row
        )
        if y is None:
            assert "y" not in found
        else:
            np.testing.assert_array_equal(found["y"], y)
        if classes:
            with h5py.File(tmp_path / "a.h5") as file:
                assert list(file["y"].attrs["classes"]) == classes


def test_words_among_numbers_are_classes_and_every_part_has_its_share(tmp_path):
    kinds = ["3"] * 40 + ["ten"] * 40 + ["2"] * 20
    (tmp_path / "a.csv").write_text("".join(f"{kind},{k / 2}\n" for k, kind in enumerate(kinds)))
    settings = ImportSettings(targets="0", mix=True)
    import_data(tmp_path / "a.csv", tmp_path / "a.h5", settings, split="0.5:0.2:0.3")
    found = arrays(tmp_path / "a.h5")
    assert sorted(joined(found, "x").ravel()) == [k / 2 for k in range(100)]
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file["train/y"].attrs["classes"]) == ["2", "3", "ten"]
        for group, rows in (("train", 50), ("validation", 20), ("test", 30)):
            shares = np.bincount(file[f"{group}/y"][:]) / rows
            np.testing.assert_allclose(shares, [0.2, 0.4, 0.4], atol=0.08)


def test_a_sorted_file_in_its_own_order_is_told(tmp_path):
    (tmp_path / "a.csv").write_text("".join(f"{'ab'[k >= 6]},{k / 2}\n" for k in range(12)))
    told: list[str] = []
    settings = ImportSettings(targets="0")
    import_data(tmp_path / "a.csv", tmp_path / "a.h5", settings, split="9:3", note=told.append)
    assert any("validation has no rows of 1 of 2 classes, such as a" in line for line in told)


def test_a_second_csv_for_testing(tmp_path):
    (tmp_path / "a.csv").write_text("label,p\n1,2\n2,3\n")
    (tmp_path / "b.csv").write_text("label,p\n5,6\n")
    import_data(
        tmp_path / "a.csv",
        tmp_path / "a.h5",
        ImportSettings(targets="label"),
        test=tmp_path / "b.csv",
    )
    found = arrays(tmp_path / "a.h5")
    assert found["test/x"].tolist() == [[6]]
    assert found["test/y"].tolist() == [5]
    assert found["train/x"].tolist() == [[2], [3]]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    for k in range(30):
        folder = tmp_path / "pictures" / ["cat", "dog", "eel"][k % 3]
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(np.full((4, 6), 10 * (k % 3) + k // 3, np.uint8)).save(folder / f"{k}.png")
    return tmp_path / "pictures"


def test_folders_are_classes_and_their_pictures_are_mixed(pictures, tmp_path):
    import_data(pictures, tmp_path / "p.h5", validation="12")
    found = arrays(tmp_path / "p.h5")
    assert found["train/x"].shape == (18, 4, 6)
    assert set(found["validation/y"]) == {0, 1, 2}
    np.testing.assert_array_equal(found["train/x"][:, 0, 0] // 10, found["train/y"])
    with h5py.File(tmp_path / "p.h5") as file:
        assert list(file["train/y"].attrs["classes"]) == ["cat", "dog", "eel"]
    import_data(pictures, tmp_path / "s.h5", ImportSettings(size=(3, 2), color=True))
    assert arrays(tmp_path / "s.h5")["x"].shape == (30, 2, 3, 3)


def test_pictures_without_pillow(pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(DataError, match=r"pip install 'gnopt\[image\]'"):
        import_data(pictures, tmp_path / "p.h5")


def text(content: str | bytes, name: str = "a.csv"):
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder / name

    return make


def saved(**named):
    def make(folder: Path) -> Path:
        np.savez(folder / "a.npz", **named)
        return folder / "a.npz"

    return make


def other_size(folder: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    (folder / "p").mkdir()
    for k in (3, 4):
        image.fromarray(np.zeros((k, 3), np.uint8)).save(folder / "p" / f"{k}.png")
    return folder / "p"


def broken_picture(folder: Path) -> Path:
    (folder / "p").mkdir()
    (folder / "p" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return folder / "p"


def loose_beside_classes(folder: Path) -> Path:
    for place in (folder / "p", folder / "p" / "cat"):
        place.mkdir()
        (place / "a.png").write_bytes(b"")
    return folder / "p"


def archive_cut(folder: Path) -> Path:
    path = saved(x=RNG.random((100, 100)))(folder)
    path.write_bytes(path.read_bytes()[:5000])
    return path


IMAGES = np.zeros((5, 2, 2))
HOSTILE = {
    "missing": (lambda folder: folder / "gone.csv", {}, ["gone.csv", "No such file"]),
    "idx cut": (text(idx(IMAGES)[:-3], "a-idx"), {}, ["ends in row 4", "5 rows"]),
    "idx goes on": (text(idx(IMAGES) + b"x", "a-idx"), {}, ["goes on after the 5 rows"]),
    "idx header cut": (text(idx(IMAGES)[:9], "a-idx"), {}, ["header is cut short"]),
    "idx empty": (text(idx(IMAGES[:0]), "a-idx"), {}, ["at least one row"]),
    "idx gz cut": (
        text(gzip.compress(idx(RNG.integers(0, 255, (50, 9))))[:-30], "a.gz"),
        {},
        ["a.gz", "cannot be read"],
    ),
    "gz of nothing": (text(b"\x1f\x8bxxxxxxxx", "a.gz"), {}, ["a.gz", "gzip"]),
    "labels differ": (saved(x=np.ones((4, 2)), y=np.arange(3)), {}, ["has 3 rows; expected 4"]),
    "which array": (saved(a=IMAGES, b=IMAGES), {}, ["a, b", "--inputs"]),
    "no such array": (
        saved(images=IMAGES),
        {"settings": ImportSettings("image")},
        ["no array 'image'", "'images'"],
    ),
    "text array": (saved(x=np.array(["a"])), {}, ["found words", "expected integers"]),
    "objects": (saved(x=np.array([{}], object)), {}, ["pickled objects"]),
    "complex": (saved(x=np.ones((2, 2)) * 1j), {}, ["complex"]),
    "scalar": (saved(x=np.float64(3)), {}, ["shape ()"]),
    "no columns": (saved(x=np.ones((3, 0))), {}, ["shape (3, 0)"]),
    "nan": (saved(x=np.array([[1, 2], [np.nan, 3]])), {}, ["row 1, column 0", "nan"]),
    "archive cut": (archive_cut, {}, ["a.npz", "cannot be read"]),
    "npy cut": (text(b"\x93NUMPY\x01\x00", "a.npy"), {}, ["a.npy", "cannot be read"]),
    "mat damaged": (
        text(b"MATLAB 5.0 MAT-file".ljust(300, b"\0"), "a.mat"),
        {},
        ["a.mat", "cannot be read"],
    ),
    "mat of text": (text(b"hello", "a.mat"), {}, ["a.mat"]),
    "pickle": (text(b"\x80\x04x", "a.bin"), {}, ["is a pickle"]),
    "csv word": (
        text("a,b\n" + "1,2\n" * 12 + "7,four\n"),
        {"settings": ImportSettings(targets="b")},
        ["line 14: the target 'b' is 'four'"],
    ),
    "csv ragged": (text("1,2\n3,4,5\n"), {}, ["line 2 has 3 cells; expected 2"]),
    "csv header alone": (text("a,b\n"), {}, ["no rows"]),
    "csv empty": (text(""), {}, ["not a file that can be imported"]),
    "csv all targets": (
        text("1\n2\n"),
        {"settings": ImportSettings(targets="0")},
        ["no column is left"],
    ),
    "csv no column": (
        text("alpha,b\n1,2\n"),
        {"settings": ImportSettings(targets="alpa")},
        ["alpa", "did you mean 'alpha'"],
    ),
    "csv column number": (
        text("1,2\n"),
        {"settings": ImportSettings(targets="2")},
        ["--targets = '2'", "found 0, 1"],
    ),
    "csv not utf-8": (text(b"a,b\n1,\xe9\n"), {}, ["byte 0xe9 in line 2", "--encoding"]),
    "binary": (text(b"ab\0\0\n", "a.bin"), {}, ["not a file that can be imported", "IDX, NPY"]),
    "sizes differ": (other_size, {}, [".png", "3x4", "3x3", "--size"]),
    "broken picture": (broken_picture, {}, ["a.png", "not a picture"]),
    "loose pictures": (loose_beside_classes, {}, ["beside subfolders"]),
    "split too large": (saved(x=IMAGES), {"split": "4:1:1"}, ["adds up to 6; expected 5"]),
    "nothing to train on": (saved(x=IMAGES), {"split": "0.0:1.0"}, ["no rows to train on"]),
    "all for validation": (saved(x=IMAGES), {"validation": "5"}, ["expected fewer"]),
    "test without targets": (
        saved(x=IMAGES, t=IMAGES, y=np.arange(5)),
        {"settings": ImportSettings("x", "y"), "test_inputs": "t"},
        ["a.npz: t: has no targets"],
    ),
    "test of another shape": (
        saved(x=IMAGES, t=IMAGES[:, :1]),
        {"test_inputs": "t"},
        ["(1, 2)", "expected (2, 2)"],
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_source(tmp_path, case):
    make, options, words = HOSTILE[case]
    source = make(tmp_path)
    with pytest.raises(DataError) as caught:
        import_data(source, tmp_path / "out.h5", **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert not [p for p in tmp_path.iterdir() if "out.h5" in p.name]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "1"}, "train:validation"),
        ({"split": "a:b"}, "found 'a'"),
        ({"split": "0.5:0.6"}, "add up to 1.1"),
        ({"split": "-1:6"}, "found '-1'"),
        ({"split": "3:2", "validation": "1"}, "one of them"),
        ({"validation": "x"}, "found 'x'"),
        ({"split": "3:1:1", "test_inputs": "x"}, "already has test rows"),
        ({"test_targets": "x"}, "without test data"),
        ({"settings": ImportSettings(size=(2, 2))}, "--size means nothing"),
    ],
)
def test_contradictory_settings_are_refused(tmp_path, options, words):
    source = saved(x=IMAGES)(tmp_path)
    with pytest.raises(ConfigError, match=words):
        import_data(source, tmp_path / "out.h5", **options)


def test_nothing_is_overwritten_unasked(tmp_path):
    source = saved(x=IMAGES)(tmp_path)
    (tmp_path / "out.h5").write_text("precious")
    with pytest.raises(DataError, match="--overwrite"):
        import_data(source, tmp_path / "out.h5")
    import_data(source, tmp_path / "out.h5", overwrite=True)
    assert describe_file(tmp_path / "out.h5")["splits"]["train"] == {
        "rows": 4,
        "inputs": 4,
        "target_shape": [4],
    }


def test_info_names_what_cannot_be_used(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.array([[0.0, np.nan]])
        file["y"] = np.arange(3)
        file["text"] = ["a"]
        file["one"] = 1.0
        file["many"] = np.arange(2**22, dtype=np.uint8)[:, None].repeat(3, 1)
    found = describe_file(tmp_path / "a.h5")
    entries = {e["path"]: e for e in found["datasets"]}
    assert "nan" in entries["x"]["problem"]
    assert entries["text"]["note"].startswith("words, labels of a loss of classes: a")
    assert "one" in entries
    assert entries["y"]["max"] == 2
    assert entries["many"]["mean"] == pytest.approx(127.5)
    assert found["targets"] == "y"
    assert "/y has 3 rows; expected 1" in found["problem"]
    assert found["splits"] == {}


def test_info_of_a_large_dataset_is_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr("gnopt.data.info._PIECE", 80)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(1000.0)
    entry = describe_file(tmp_path / "a.h5")["datasets"][0]
    assert entry["sampled"]
    assert (entry["min"], entry["max"]) == (0, 999)


# ---- files that unpack to more than there is -----------------------------------------------------


def test_an_archive_that_does_not_fit_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((1000, 1000)))
    monkeypatch.setattr("gnopt.data.rows.free_memory", lambda: 10**6)
    with pytest.raises(DataError, match=r"a.npz: array 'x': takes 8 MB unpacked; 1 MB are free"):
        import_data(tmp_path / "a.npz", tmp_path / "o.h5")
    assert not (tmp_path / "o.h5").exists()


@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_promises_more_than_the_file_can_hold_is_refused(tmp_path, packed):
    path = tmp_path / "i.idx"
    content = struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 70000, 70000)
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match=r"i.idx: its header promises 2 rows of 4.9 GB; the file"):
        import_data(path, tmp_path / "o.h5")

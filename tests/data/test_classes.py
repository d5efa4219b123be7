"""Labels of every kind get the numbers 0 to K − 1, the same in every file of a network."""

import math
from pathlib import Path

import h5py
import numpy as np
import pytest

from gnopt.data.classes import Classes, LabelRule
from gnopt.data.options import DataSettings
from gnopt.data.source import open_data
from gnopt.errors import DataError

SOFTMAX = LabelRule("softmax_cross_entropy", math.inf)
TWO = LabelRule("binary_cross_entropy", 2, fractions=True)
PLACES = np.array([0, 1, 2, 1, 0, 2])  # the class of each row
X = np.arange(12.0).reshape(6, 2)
COLOURS = h5py.enum_dtype({"red": 3, "green": 5, "blue": 9}, "u1")
LABELS = {
    "counted": np.array([0, 1, 2]),
    "from one": np.array([1, 2, 3], np.uint8),
    "signs": np.array([-1, 0, 1], np.int8),
    "ids": np.array([10001, 2_000_000_000, 2**62]),
    "whole floats": np.array([1.0, 2.0, 5.0], np.float32),
    "big-endian": np.array([10, 20, 30], ">i4"),
    "bytes": np.array([b"a", b"b10", b"c"]),
    "short and long numbers in words": np.array([b"a2", b"a10", b"a100"]),
}


def write(path: Path, y: np.ndarray, **attributes) -> Path:
    with h5py.File(path, "w") as file:
        file["x"] = X[: len(y)]
        file["y"] = y
        file["y"].attrs.update(attributes)
    return path


def opened(path: Path, labels=SOFTMAX, classes=None, **settings):
    settings = {"file": str(path), "targets": "y", "validation": 0, **settings}
    return open_data(
        DataSettings(**settings), seed=0, dtype="float32", labels=labels, classes=classes
    )


def rows(data) -> np.ndarray:
    return data.train.rows_at(0, 6)[1]


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("shape", [(6,), (6, 1)])
@pytest.mark.parametrize("memory", ["auto", "80B"])
def test_labels_are_numbered_in_their_order(tmp_path, kind, shape, memory):
    labels = LABELS[kind][PLACES].reshape(shape)
    with opened(write(tmp_path / "d.h5", labels), memory=memory) as data:
        y = rows(data)
        np.testing.assert_array_equal(y, PLACES)
        assert y.dtype == np.int64
        assert data.largest_label == 2
        assert data.classes.counted == (kind == "counted")
        x, y = data.train.batch(0, 6)
        np.testing.assert_array_equal(y, PLACES[np.rint(x[:, 0] / 2).astype(int)])


def test_strings_of_any_length_are_labels_and_keep_their_names(tmp_path):
    words = ["Äpfel", "birne", "x"]
    labels = np.array([words[k] + " " for k in PLACES], dtype=h5py.string_dtype())
    with opened(write(tmp_path / "d.h5", labels)) as data:
        assert [data.classes.names[k] for k in rows(data)] == [words[k] for k in PLACES]


def test_an_enumeration_names_its_classes(tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"] = X
        file.create_dataset("y", data=np.array([3, 5, 9])[PLACES], dtype=COLOURS)
    with opened(tmp_path / "d.h5") as data:
        assert data.classes == Classes(("red", "green", "blue"), (3, 5, 9))
        np.testing.assert_array_equal(rows(data), PLACES)


def test_classes_without_rows_count_where_the_file_names_them(tmp_path):
    y = np.array([0, 2, 2, 0, 2, 0])
    with opened(write(tmp_path / "d.h5", y, classes=["ash", "birch", "cherry"])) as data:
        assert data.classes.names == ("ash", "birch", "cherry")
        np.testing.assert_array_equal(rows(data), y)


def test_two_classes_and_probabilities(tmp_path):
    signs = np.where(PLACES == 1, 1, -1)
    with opened(write(tmp_path / "d.h5", signs), TWO) as data:
        np.testing.assert_array_equal(rows(data), (signs + 1) // 2)
        assert data.classes.names == ("-1", "1")
    with opened(write(tmp_path / "p.h5", PLACES / 3), TWO) as data:
        np.testing.assert_allclose(rows(data), PLACES / 3, rtol=1e-6)
    with opened(write(tmp_path / "one.h5", np.ones(6, int)), TWO) as data:
        np.testing.assert_array_equal(rows(data), np.ones(6))
    with pytest.raises(DataError, match="3 classes: 0, 1, 2; loss binary_cross_entropy tells 2"):
        opened(write(tmp_path / "three.h5", PLACES), TWO)


def test_numbers_are_numbers_where_the_loss_says_so(tmp_path):
    with opened(write(tmp_path / "d.h5", PLACES * 7 - 3), LabelRule("squared_error")) as data:
        np.testing.assert_array_equal(rows(data), PLACES * 7 - 3)
        assert data.classes is None
    with pytest.raises(DataError, match=r"row 1 .* is 0.5; expected labels, .*squared_error takes"):
        opened(write(tmp_path / "f.h5", PLACES / 2))
    with pytest.raises(DataError, match="/y holds text"):
        opened(write(tmp_path / "w.h5", LABELS["bytes"][PLACES]), LabelRule("squared_error"))


def test_one_hot_targets_stay_as_they_are(tmp_path):
    with opened(write(tmp_path / "d.h5", np.eye(3, dtype=bool)[PLACES])) as data:
        np.testing.assert_array_equal(rows(data), np.eye(3)[PLACES])


@pytest.mark.parametrize("kind", ["counted", "signs", "bytes", "ids"])
def test_a_new_file_is_numbered_by_the_classes_of_the_network(tmp_path, kind):
    with opened(write(tmp_path / "d.h5", LABELS[kind][PLACES])) as data:
        known = data.classes
    with opened(write(tmp_path / "new.h5", LABELS[kind][[2, 2]]), classes=known) as data:
        np.testing.assert_array_equal(rows(data), [2, 2])
        assert data.largest_label == 2


def test_names_decide_between_files_that_number_their_classes_differently(tmp_path):
    with opened(write(tmp_path / "d.h5", PLACES, classes=["ash", "birch", "cherry"])) as data:
        known = data.classes
    other = write(tmp_path / "other.h5", np.array([0, 1]), classes=["cherry", "ash"])
    with opened(other, classes=known) as data:
        np.testing.assert_array_equal(rows(data), [2, 0])
    with opened(write(tmp_path / "words.h5", np.array([b"birch", b"ash"])), classes=known) as data:
        np.testing.assert_array_equal(rows(data), [1, 0])


def test_a_label_that_no_training_row_has_is_named(tmp_path):
    known = Classes(("cat", "dog"))
    path = write(tmp_path / "new.h5", np.array([b"dog", b"dgo", b"cat"]))
    with pytest.raises(DataError) as caught, opened(path, classes=known) as data:
        rows(data)
    assert str(caught.value) == (
        f"{path}: /y: label dgo (first in row 1, counted from 0); expected one of the 2 classes of "
        "the training rows: cat, dog (did you mean 'dog'?)"
    )


def test_an_empty_word_is_no_label(tmp_path):
    with pytest.raises(DataError, match=r"/y: row 2 \(counted from 0\) is empty"):
        opened(write(tmp_path / "d.h5", np.array([b"a", b"b", b" ", b"a"])))


@pytest.mark.parametrize(
    ("classes", "note"),
    [
        (Classes(("0", "1"), (0, 1)), ""),
        (Classes(("-1", "1"), (-1, 1)), "labels -1, 1 are numbered 0 and 1"),
        (Classes(("a", "b", "c")), "labels a, b, c are numbered 0 to 2"),
        (
            Classes(tuple(map(str, range(1, 13))), tuple(range(1, 13))),
            "labels 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more are numbered 0 to 11",
        ),
    ],
)
def test_a_line_says_how_labels_are_numbered(classes, note):
    assert classes.note() == note


@pytest.mark.parametrize(
    "y",
    [
        np.arange(3000) * 7 + 1_700_000_000,
        np.arange(3000) // 1.5,
        np.array([b"id%d" % k for k in range(3000)]),
    ],
    ids=["times", "whole floats", "words"],
)
def test_identifiers_and_times_are_no_classes(tmp_path, y):
    y = np.floor(y) if y.dtype.kind == "f" else y
    with h5py.File(tmp_path / "ids.h5", "w") as file:
        file["x"], file["y"] = np.zeros((3000, 2)), y
    with pytest.raises(DataError, match=r"/y holds [23],000 different labels in its first 3,000"):
        opened(tmp_path / "ids.h5")


def test_many_classes_that_repeat_are_classes(tmp_path):
    with h5py.File(tmp_path / "many.h5", "w") as file:
        file["x"], file["y"] = np.zeros((6000, 2)), np.arange(6000) % 2000
    with opened(tmp_path / "many.h5") as data:
        assert data.largest_label == 1999

"""Files that are new to a trained network, and files whose groups are told by names."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from gnopt.data.options import DataSettings
from gnopt.data.source import open_data
from gnopt.errors import DataError

X = np.arange(40.0).reshape(20, 2)
Y = np.arange(20) % 3


def write(path: Path, **arrays) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name.replace("__", "/")] = array
    return path


def rows(path: Path, new: bool = False, **settings) -> dict[str, int]:
    settings = {"file": str(path), "targets": "y", **settings}
    with open_data(DataSettings(**settings), seed=0, dtype="float64", new=new) as data:
        assert data.inputs == 2
        return {name: split.rows for name, split in data.splits.items()}


def test_all_rows_of_a_new_file_are_used(tmp_path):
    path = write(tmp_path / "n.h5", x=X, y=Y)
    assert rows(path, new=True) == {"all": 20}
    assert rows(path, new=True, validation=0.5, standardize=False) == {"all": 20}
    assert rows(write(tmp_path / "one.h5", x=X[:1], y=Y[:1]), new=True) == {"all": 1}


@pytest.mark.parametrize(
    ("groups", "found"),
    [
        (["test"], ["test"]),
        (["validation"], ["validation"]),
        (["train", "test"], ["train", "test"]),
        (["train", "validation", "test"], ["train", "validation", "test"]),
        (["other", "test"], ["test"]),
    ],
)
def test_the_groups_of_a_new_file_are_whole(tmp_path, groups, found):
    path = write(
        tmp_path / "n.h5",
        **{f"{group}__x": X for group in groups},
        **{f"{group}__y": Y for group in groups},
    )
    assert rows(path, new=True) == dict.fromkeys(found, 20)


def test_groups_without_targets_are_left_out_where_targets_are_needed(tmp_path):
    path = write(tmp_path / "n.h5", train__x=X, train__y=Y, test__x=X)
    assert rows(path, new=True) == {"train": 20}
    assert rows(path, new=True, targets="inputs") == {"train": 20, "test": 20}
    with pytest.raises(DataError, match="no dataset /test/y"):
        rows(write(tmp_path / "m.h5", test__x=X), new=True)


def test_rows_at_the_top_beside_groups_are_the_training_rows(tmp_path):
    path = write(tmp_path / "n.h5", x=X, y=Y, test__x=X[:4], test__y=Y[:4])
    assert rows(path, new=True) == {"train": 20, "test": 4}


def test_a_new_file_without_inputs_says_what_it_holds(tmp_path):
    with pytest.raises(DataError, match="no dataset /x; the file holds images"):
        rows(write(tmp_path / "n.h5", images=X), new=True)


NAMES = {
    "keras": ("x_train", "y_train", "x_test", "y_test"),
    "matlab": ("XTrain", "YTrain", "XTest", "YTest"),
    "groups": ("train__images", "train__labels", "test__images", "test__labels"),
    "sets": ("train_set_x", "train_set_y", "test_set_x", "test_set_y"),
}


@pytest.mark.parametrize("kind", NAMES)
def test_groups_are_told_by_the_names_of_others(tmp_path, kind):
    arrays = dict(zip(NAMES[kind], (X, Y[:, None], X[:5], Y[:5, None]), strict=True))
    path = write(tmp_path / "k.h5", list_classes=np.array([b"a", b"b", b"c"]), **arrays)
    assert rows(path) == {"train": 18, "validation": 2, "test": 5}
    assert rows(path, targets="inputs", validation=0) == {"train": 20, "test": 5}
    assert rows(path, new=True) == {"train": 20, "test": 5}
    only = write(tmp_path / "t.h5", **dict(list(arrays.items())[2:]))
    assert rows(only, new=True) == {"test": 5}


def test_bytes_of_pictures_get_their_scale(tmp_path):
    pictures = np.full((6, 1, 2), 255, np.uint8)
    path = write(tmp_path / "p.h5", x=pictures)
    settings = DataSettings(file=str(path), validation=0)
    with open_data(settings, seed=0, dtype="float64") as data:
        np.testing.assert_allclose(data.train.rows_at(0, 6)[0], 1.0)

"""Rows of a run chosen by folds and bootstrap samples: every fold once, on disk as in memory."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnopt.data import hdf5
from gnopt.data.options import DataSettings
from gnopt.data.selection import Bootstrap, Fold, read_selection
from gnopt.data.source import Data, open_data
from gnopt.errors import ConfigError, DataError
from gnopt.rng import generator

ROWS = 211


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first input is the number of the row; of 4 classes the last has a single row."""
    path = tmp_path_factory.mktemp("rows") / "rows.h5"
    y = np.arange(ROWS) % 3
    y[100] = 3
    with h5py.File(path, "w") as handle:
        x = np.random.default_rng(0).random((ROWS, 5))
        x[:, 0] = np.arange(ROWS)
        handle.create_dataset("x", data=x, chunks=(10, 5), compression="gzip")
        handle["y"] = y.astype(np.uint8)
        handle["test/x"], handle["test/y"] = x[:7], y[:7].astype(np.uint8)
        handle["validation/x"], handle["validation/y"] = x[:9], y[:9].astype(np.uint8)
    return path


def opened(path: Path, **settings: object) -> Data:
    section = DataSettings(file=str(path), targets="y", split="end", standardize=False).changed(
        **settings
    )
    return open_data(section, seed=3, dtype="float64")


def numbers(x: np.ndarray) -> list[int]:
    return [int(number) for number in x[:, 0]]


@given(
    rows=st.integers(2, 300), of=st.integers(2, 20), classes=st.integers(0, 5), seed=st.integers(0)
)
def test_folds_partition_the_rows_and_every_class(rows, of, classes, seed):
    of = min(of, rows)
    labels = generator(seed, "test").integers(0, classes, rows) if classes else None
    folds = [Fold(i, of).choose(rows, labels, seed) for i in range(1, of + 1)]
    held = np.concatenate([fold.validation for fold in folds])
    assert sorted(held) == list(range(rows))
    for fold in folds:
        assert sorted([*fold.train, *fold.validation]) == list(range(rows))
        assert list(fold.train) == sorted(fold.train)
        assert list(fold.validation) == sorted(fold.validation)
    sizes = [len(fold.validation) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    for label in range(classes):
        counts = [np.count_nonzero(labels[fold.validation] == label) for fold in folds]
        assert max(counts) - min(counts) <= 1


@given(rows=st.integers(1, 300), seed=st.integers(0))
def test_a_bootstrap_sample_has_as_many_rows_drawn_with_replacement(rows, seed):
    train = Bootstrap().choose(rows, None, seed).train
    assert len(train) == rows
    assert list(train) == sorted(train)
    assert train[0] >= 0
    assert train[-1] < rows
    assert list(train) == list(Bootstrap().choose(rows, None, seed).train)


def test_a_bootstrap_sample_leaves_out_about_a_third():
    counts = np.bincount(Bootstrap().choose(20_000, None, 1).train, minlength=20_000)
    expected = np.exp(-1.0) / np.array([1.0, 1.0, 2.0, 6.0])  # Poisson with mean 1
    np.testing.assert_allclose(np.bincount(counts)[:4] / 20_000, expected, atol=0.01)


def test_the_folds_of_a_file_partition_its_training_rows(file):
    held: list[int] = []
    for number in range(1, 5):
        with opened(file, rows=f"fold {number}/4", rows_seed=5) as data:
            train, validation = data.train, data.validation
            assert validation is not None
            part = numbers(validation.rows_at(0, ROWS)[0])
            rest = numbers(train.rows_at(0, ROWS)[0])
            assert sorted(part + rest) == list(range(ROWS))
            assert sorted(numbers(train.batch(0, train.rows)[0])) == rest
            assert data.test is not None
            assert data.test.rows == 7
        held += part
    assert sorted(held) == list(range(ROWS))


def test_other_seeds_draw_other_rows(file):
    parts = []
    for seed in (0, 0, 1):
        with opened(file, rows="fold 1/4", rows_seed=seed) as data:
            assert data.validation is not None
            parts.append(numbers(data.validation.rows_at(0, ROWS)[0]))
    assert parts[0] == parts[1] != parts[2]


def test_a_bootstrap_sample_is_of_the_rows_that_are_not_held_out(file):
    with opened(file, rows="bootstrap", rows_seed=2, validation=0.2) as data:
        assert data.validation is not None
        first = data.train.rows
        assert numbers(data.validation.rows_at(0, ROWS)[0]) == list(range(first, ROWS))
        drawn = numbers(data.train.rows_at(0, ROWS)[0])
        assert len(drawn) == first > len(set(drawn))
        assert set(drawn) <= set(range(first))


@pytest.mark.parametrize("rows", ["bootstrap", "fold 2/3"])
@pytest.mark.parametrize("piece_bytes", [1, 500, 2**22])
def test_chosen_rows_are_the_same_on_disk_and_in_memory(file, rows, piece_bytes, monkeypatch):
    monkeypatch.setattr(hdf5, "_PIECE_BYTES", piece_bytes)
    monkeypatch.setattr("gnopt.data.source.GROUP_BYTES", 1600)
    with opened(file, rows=rows) as held, opened(file, rows=rows, memory="3300B") as read:
        assert held.train.in_memory
        assert not read.train.in_memory
        for first, count in ((0, 400), (37, 100)):
            for one, other in zip(
                held.train.batch(first, count), read.train.batch(first, count), strict=True
            ):
                np.testing.assert_array_equal(one, other)
        for one, other in zip(held.train.rows_at(5, 90), read.train.rows_at(5, 90), strict=True):
            np.testing.assert_array_equal(one, other)
        assert held.train.moments().mean.tobytes() == read.train.moments().mean.tobytes()


def test_labels_that_a_sample_leaves_out_are_known(file):
    for number in range(1, 4):
        with opened(file, rows=f"fold {number}/3") as data:
            assert data.largest_label == 3
    with opened(file, rows="fold 1/3", target_transform="parity") as data:
        assert data.largest_label == 1
    with opened(file) as data:
        assert data.largest_label is None


def test_inputs_are_standardised_by_the_chosen_rows(file):
    with opened(file, rows="fold 1/2", standardize=True) as data:
        x, _ = data.train.rows_at(0, ROWS)
        np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=1e-12)


def test_too_many_folds_are_refused(file):
    with pytest.raises(DataError, match=f"fold 1/300.*300 folds of {ROWS} rows"):
        opened(file, rows="fold 1/300")


@pytest.mark.parametrize("text", ["", "some", "fold", "fold 3", "fold 0/3", "fold 4/3", "fold 1/1"])
def test_another_text_is_refused(text):
    with pytest.raises(ConfigError, match="fold I/N"):
        read_selection(text)


def test_weights_stay_with_their_rows(file):
    with h5py.File(file, "a") as handle:
        for group in ("", "test/", "validation/"):
            handle.require_dataset(
                f"{group}w", (len(handle[f"{group}x"]),), "f8", data=handle[f"{group}x"][:, 0] + 1.0
            )
    for rows in ("bootstrap", "fold 2/3"):
        with opened(file, rows=rows, weights="w") as data:
            for split in (data.train, data.validation):
                assert split is not None
                x, y = split.rows_at(0, ROWS)
                np.testing.assert_array_equal(y.own, x[:, 0] + 1.0)

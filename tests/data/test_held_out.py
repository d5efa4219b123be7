"""Rows that a fraction holds out: shares of classes and of numbers, whole groups, the seed."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnopt.data.held_out import draw_held_out
from gnopt.data.options import DataSettings
from gnopt.data.selection import Bootstrap, Fold
from gnopt.data.source import open_data
from gnopt.errors import ConfigError, DataError


@given(
    counts=st.lists(st.integers(5, 40), min_size=1, max_size=6),
    fraction=st.floats(0.02, 0.6),
    seed=st.integers(0, 5),
)
def test_every_class_gives_its_share_and_keeps_a_row(counts, fraction, seed):
    key = np.repeat(np.arange(len(counts)), counts)
    held = max(1, round(len(key) * fraction))
    out = draw_held_out(len(key), held, seed, key, None)
    for label, count in enumerate(counts):
        share = out[key == label].sum()
        assert share <= count - 1
        assert abs(share - held / len(key) * count) < 1
    assert (draw_held_out(len(key), held, seed, key, None) == out).all()


def test_amounts_are_no_classes():
    assert draw_held_out(100, 20, 0, np.arange(100), None).sum() == 20


def test_numbers_are_held_out_over_their_whole_range():
    y = np.random.default_rng(0).normal(size=1000)
    out = draw_held_out(1000, 100, 0, y, None)
    assert out.sum() == 100
    by_rank = np.sort(y)
    for low, high in ((0, 250), (250, 500), (500, 750), (750, 1000)):
        inside = (y >= by_rank[low]) & (y <= by_rank[high - 1])
        assert 24 <= out[inside].sum() <= 26


@given(sizes=st.lists(st.integers(1, 30), min_size=2, max_size=12), seed=st.integers(0, 3))
def test_rows_of_a_group_stay_together(sizes, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    out = draw_held_out(len(groups), max(1, len(groups) // 5), seed, None, groups)
    shares = [set(out[groups == group]) for group in range(len(sizes))]
    assert all(len(share) == 1 for share in shares)
    assert {True} in shares
    assert {False} in shares
    number = 2
    held = np.zeros(len(groups), dtype=int)
    for i in range(1, number + 1):
        fold = Fold(i, number).choose(len(groups), None, seed, groups)
        assert not set(groups[fold.train]) & set(groups[fold.validation])
        held[fold.validation] += 1
    assert (held == 1).all()
    drawn = Bootstrap().choose(len(groups), None, seed, groups).train
    times = np.bincount(drawn, minlength=len(groups))
    assert all(len(set(times[groups == group])) == 1 for group in range(len(sizes)))


def test_too_few_groups_for_folds():
    with pytest.raises(ConfigError, match="3 folds of 2 groups"):
        Fold(1, 3).choose(4, None, 0, np.array([0, 0, 1, 1]))


def opened(path, **settings):
    return open_data(DataSettings(file=str(path), targets="y", **settings), seed=1, dtype="float64")


@pytest.fixture
def sorted_file(tmp_path):
    """A file that is sorted by class, with a patient for every four rows."""
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["x"] = np.arange(120.0).reshape(60, 2)
        file["y"] = np.repeat([0, 1, 2], 20)
        file["patient"] = [f"p{k // 4}" for k in range(60)]
        file["short"] = np.zeros(3)
    return tmp_path / "s.h5"


def test_a_sorted_file_holds_out_rows_of_each_class(sorted_file):
    with opened(sorted_file, validation=0.2) as data:
        assert np.bincount(data.validation.rows_at(0, 99)[1]).tolist() == [4, 4, 4]
        assert np.bincount(data.train.rows_at(0, 99)[1]).tolist() == [16, 16, 16]
    with opened(sorted_file, validation=0.2, split="end") as data:
        assert set(data.validation.rows_at(0, 99)[1]) == {2}
    with opened(sorted_file, validation=0.2, rows_seed=1, standardize=False) as data:
        first = data.validation.rows_at(0, 99)[0]
    with opened(sorted_file, validation=0.2, standardize=False) as data:
        assert not np.array_equal(first, data.validation.rows_at(0, 99)[0])


def test_groups_are_words_of_a_dataset(sorted_file):
    with opened(sorted_file, validation=0.2, group="patient", standardize=False) as data:
        held = {int(x) // 8 for x in data.validation.rows_at(0, 99)[0][:, 0]}
        kept = {int(x) // 8 for x in data.train.rows_at(0, 99)[0][:, 0]}
        assert not held & kept
        assert len(held) == 3
    with pytest.raises(DataError, match=r"data.group: /short has shape \(3,\)"):
        opened(sorted_file, validation=0.2, group="short")

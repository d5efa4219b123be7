"""Weights of rows in data files: read beside the inputs, in every order, and checked."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnopt.data import order as order_module
from gnopt.data.formats import ImportSettings
from gnopt.data.importing import import_data
from gnopt.data.moments import moments
from gnopt.data.options import DataSettings
from gnopt.data.source import open_data
from gnopt.errors import ConfigError, DataError

ROWS = 300


@pytest.fixture
def file(tmp_path):
    """Rows whose input is their number, and whose weight is a function of that."""
    path = tmp_path / "w.h5"
    number = np.arange(ROWS)
    with h5py.File(path, "w") as handle:
        handle.create_dataset("x", data=np.stack([number, number**2], axis=1), chunks=(10, 2))
        handle["y"] = number % 3
        handle["w"] = (number % 5) / 4.0
    return path


def opened(path, **settings):
    return open_data(DataSettings(file=str(path), split="end", **settings), seed=1, dtype="float64")


def check(x, y):
    np.testing.assert_array_equal(y.own, x[:, 0] % 5 / 4.0)
    np.testing.assert_array_equal(y.weight, y.own)
    np.testing.assert_array_equal(y.values, x[:, 0] % 3)


@pytest.mark.parametrize("memory", ["1GB", "3000"])
def test_rows_keep_their_weights_in_any_order(file, memory, monkeypatch):
    monkeypatch.setattr(order_module, "BLOCK_BYTES", 500)
    with opened(file, targets="y", weights="w", memory=memory, standardize=False) as data:
        assert data.train.in_memory == (memory == "1GB")
        check(*data.train.batch(7, 400))
        check(*data.train.batch(230, 60))
        check(*data.train.rows_at(20, 130))
        check(*data.train.spread(50))
        check(*data.validation.rows_at(0, 30))
        for x, y in data.train.chunks(77):
            check(x, y)
        own = np.concatenate([y.own for y in data.train.targets(77)])
        np.testing.assert_array_equal(own, np.arange(270) % 5 / 4.0)


def test_an_autoencoder_shares_its_targets(file):
    with opened(file, weights="w") as data:
        x, y = data.train.rows_at(3, 9)
        assert y.values is x
        assert data.train.autoencoder
        np.testing.assert_array_equal(y.own, x[:, 0] % 5 / 4.0)
        assert data.train.batch(0, 5)[1].values is not None


def test_without_weights_targets_are_arrays(file):
    with opened(file, targets="y") as data:
        assert isinstance(data.train.batch(0, 5)[1], np.ndarray)
        assert data.train.weights is None


def test_folds_and_scales(file):
    with h5py.File(file, "r+") as handle:
        handle["w"].attrs["scale"] = 0.5
    with opened(file, targets="y", weights="w", rows="fold 2/3", standardize=False) as data:
        x, y = data.validation.rows_at(0, 100)
        np.testing.assert_array_equal(y.own, x[:, 0] % 5 / 8.0)


def test_weights_of_groups(tmp_path):
    with h5py.File(tmp_path / "g.h5", "w") as handle:
        for group, w in (("train", [1.0, 2.0]), ("validation", [3.0, 0.0]), ("test", [5.0, 6.0])):
            handle[f"{group}/x"], handle[f"{group}/w"] = np.ones((2, 1)), w
    for name in ("w", "train/w"):
        with opened(tmp_path / "g.h5", weights=name) as data:
            found = [split.weights.tolist() for split in (data.train, data.validation, data.test)]
            assert found == [[1.0, 2.0], [3.0, 0.0], [5.0, 6.0]]
    with h5py.File(tmp_path / "g.h5", "r+") as handle:
        del handle["validation/w"]
    with pytest.raises(DataError, match="no dataset /validation/w"):
        opened(tmp_path / "g.h5", weights="w")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.full(ROWS, -1.0), r"data\.weights: /w: row 0 .* is -1; expected weights >= 0"),
        (np.zeros(ROWS), r"data\.weights: /w: all 270 rows have weight 0"),
        (np.where(np.arange(ROWS) == 9, np.nan, 1.0), r"/w: row 9 .* is nan; expected finite"),
        (np.where(np.arange(ROWS) == 9, np.inf, 1.0), r"/w: row 9 .* is inf"),
        (np.ones(ROWS - 1), r"/w has 299 rows; expected 300, as /x"),
        (np.ones((ROWS, 2)), r"/w has rows of 2 numbers; expected one weight a row"),
    ],
)
def test_bad_weights(file, weights, message):
    with h5py.File(file, "r+") as handle:
        del handle["w"]
        handle["w"] = weights
    with pytest.raises(DataError, match=message):
        opened(file, weights="w")


def test_a_missing_dataset_is_named_with_the_nearest(file):
    with pytest.raises(DataError, match=r"no dataset /ww; .*did you mean 'w'"):
        opened(file, weights="ww")


@given(counts=st.lists(st.integers(0, 3), min_size=2, max_size=12).filter(any))
def test_moments_count_rows_by_their_weights(counts):
    values = np.random.default_rng(3).normal(5.0, 2.0, (len(counts), 2))
    blocks = [values[:5], values[5:]] if len(values) > 5 else [values]
    found = moments(blocks, 0.5, values.dtype, np.array(counts, dtype=float))
    expected = moments([values.repeat(counts, axis=0)], 0.5, values.dtype)
    for name in ("mean", "deviation", "low", "high"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=1e-12, atol=1e-12
        )


# ---- import --------------------------------------------------------------------------------------


def test_a_column_of_a_table_becomes_w(tmp_path):
    (tmp_path / "a.csv").write_text("p,weight,q,label\n1,2,3,a\n4,0.5,6,b\n7,1,9,a\n")
    settings = ImportSettings(targets="label", weights="weight")
    import_data(tmp_path / "a.csv", tmp_path / "a.h5", settings, split="2:1")
    with h5py.File(tmp_path / "a.h5") as handle:
        assert handle["train/w"][:].tolist() == [2.0, 0.5]
        assert handle["validation/w"][:].tolist() == [1.0]
        assert handle["train/x"][:].tolist() == [[1, 3], [4, 6]]
        assert handle["train/y"][:].tolist() == [0, 1]


def test_an_array_becomes_w(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.eye(3), y=np.arange(3), weight=[1.0, 0.0, 2.5])
    import_data(tmp_path / "a.npz", tmp_path / "a.h5", ImportSettings(weights="weight"))
    with h5py.File(tmp_path / "a.h5") as handle:
        assert handle["w"][:].tolist() == [1.0, 0.0, 2.5]
        assert sorted(handle) == ["w", "x", "y"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("v", r"--weights = 'v': no column 'v'"),
        ("p", r"--weights p: row 1 .* is -4; expected weights >= 0"),
        ("label", r"line 2: the weight 'label' is 'a'; expected a number"),
        ("p,q", r"--weights: found 2 columns; expected one"),
    ],
)
def test_columns_that_are_no_weights(tmp_path, column, message):
    (tmp_path / "a.csv").write_text("p,label,q\n1,a,2\n-4,b,5\n7,a,8\n")
    settings = ImportSettings(targets="label", inputs="p", weights=column)
    with pytest.raises(DataError, match=message):
        import_data(tmp_path / "a.csv", tmp_path / "a.h5", settings)
    assert not (tmp_path / "a.h5").exists()


def test_formats_without_names_have_no_weights(tmp_path):
    (tmp_path / "a").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 6]))
    with pytest.raises(ConfigError, match="--weights means nothing"):
        import_data(tmp_path / "a", tmp_path / "a.h5", ImportSettings(weights="w"))

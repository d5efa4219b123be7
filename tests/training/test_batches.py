"""The stream of batches."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnopt.data.options import DataSettings
from gnopt.data.source import open_data
from gnopt.engine.arrays import get_backend
from gnopt.engine.losses import get_loss
from gnopt.training.batches import Batches

ROWS = 37


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.h5"
    with h5py.File(path, "w") as file:
        file["x"], file["y"] = np.arange(ROWS, dtype="f4")[:, None], np.zeros(ROWS, "f4")
    settings = DataSettings(file=str(path), targets="y", validation=0, standardize=False)
    data = open_data(settings, seed=3, dtype="float32")
    yield data.train
    data.close()


@given(st.integers(0, 5 * ROWS))
def test_a_batch_of_all_rows_holds_each_once(split, position):
    batches = Batches(split, get_loss("squared_error"), get_backend("cpu"))
    x, _ = batches.take(position, ROWS)
    assert sorted(x[:, 0].tolist()) == list(range(ROWS))
    some, _ = batches.take(position, 5)
    np.testing.assert_array_equal(some, split.batch(position, 5)[0])

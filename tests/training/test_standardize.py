"""``data.standardize = "auto"`` in training: units do not matter, usual inputs keep their bits."""

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnopt.config import load
from gnopt.data.options import DataSettings
from gnopt.data.source import open_data
from gnopt.data.split import Split
from gnopt.errors import ConfigError, DataError
from gnopt.training import start
from gnopt.training.estimate import check_memory
from gnopt.training.loop import Reporter, run_to_end

CONFIG = """
[data]
file = "data.h5"
targets = "y"
validation = 0
[network]
hidden = [8, 8]
activation = "tanh"
loss = "squared_error"
[optimizer]
weight_decay = 1e-6
{method}
[training]
batch_size = 100
updates = 20
dtype = "float64"
"""


def put(path, x, y):
    with h5py.File(path, "w") as file:
        file["x"], file["y"] = x, y


def opened(path, **values):
    return open_data(DataSettings(file=str(path), **values), seed=0, dtype="float32")


def trained_loss(folder, x, y, method):
    put(folder / "data.h5", x, y)
    (folder / "net.toml").write_text(CONFIG.format(method=method))
    trainer = start.begin(
        load(folder / "net.toml"), folder / "run", None, True, Reporter(), [], check_memory
    )
    return run_to_end(trainer).train.loss


@pytest.mark.parametrize("method", ['method = "kfra"', 'method = "adam"\nlearning_rate = 0.05'])
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    exponents=st.lists(st.integers(4, 12), min_size=3, max_size=3),
    sign=st.sampled_from([-1, 1]),
    shifts=st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3),
)
def test_the_units_of_the_inputs_do_not_matter(tmp_path, method, exponents, sign, shifts):
    x = 100.0 * np.random.default_rng(0).standard_normal((100, 3))
    y = np.tanh(x[:, 0] / 100) * x[:, 1] / 100
    units = 10.0 ** (sign * np.array(exponents))
    one = trained_loss(tmp_path, x, y, method)
    other = trained_loss(tmp_path, (x + shifts) * units, y, method)
    assert other == pytest.approx(one, rel=1e-4)
    assert one < 0.8 * np.var(y) / 2


def test_usual_inputs_keep_their_bits(tmp_path):
    x = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    put(tmp_path / "data.h5", x, x[:, 0])
    with opened(tmp_path / "data.h5", targets="y", validation=0) as data:
        assert data.statistics is None
        assert data.train.rows_at(0, 300)[0].tobytes() == x.tobytes()


def test_scaled_bytes_and_autoencoders_cost_no_pass(tmp_path, monkeypatch):
    x = np.random.default_rng(0).integers(0, 256, (50, 9)).astype(np.uint8)
    put(tmp_path / "pixels.h5", x, x[:, 0])
    put(tmp_path / "data.h5", 1e6 * x, x[:, 0])
    with h5py.File(tmp_path / "pixels.h5", "a") as file:
        file["x"].attrs["scale"] = 1 / 255

    def refuse(self):
        raise AssertionError("a pass over the inputs")

    monkeypatch.setattr(Split, "moments", refuse)
    with opened(tmp_path / "pixels.h5", targets="y") as data:
        assert data.statistics is None
    with opened(tmp_path / "data.h5") as data:
        x, y = data.train.rows_at(0, 10)
        assert x is y
        assert x.max() > 1e6
    with pytest.raises(AssertionError), opened(tmp_path / "data.h5", targets="y"):
        pass


@pytest.mark.parametrize("memory", ["auto", "8KB"])
def test_a_time_stamp_keeps_its_digits_and_targets_stay(tmp_path, memory):
    time = np.arange(1.6e9, 1.6e9 + 2000)
    x = np.c_[time, np.full(2000, 1e6), np.zeros(2000)]
    put(tmp_path / "data.h5", x, 1e6 * time)
    with opened(tmp_path / "data.h5", targets="y", validation=0, memory=memory) as data:
        z, y = data.train.rows_at(0, 2000)
        assert "column 0" in data.why_standardized
    np.testing.assert_allclose(z[:, 0], (time - time.mean()) / time.std(), atol=1e-6)
    assert (z[:, 1:] == 0.0).all()
    np.testing.assert_array_equal(y, (1e6 * time).astype(np.float32))


def test_not_a_number_is_an_error(tmp_path):
    x = np.ones((30, 2))
    x[20, 1] = np.nan
    put(tmp_path / "data.h5", x, x[:, 0])
    with pytest.raises(DataError, match="row 20, column 1"):
        opened(tmp_path / "data.h5", targets="x", validation=0)


def test_the_setting_says_what_it_takes(tmp_path):
    (tmp_path / "net.toml").write_text(CONFIG.format(method='method = "kfra"'))
    for text in ("maybe", "1"):
        with pytest.raises(ConfigError, match='expected true, false or "auto"'):
            load(tmp_path / "net.toml", (f"data.standardize={text}",))
    for text, value in (("auto", "auto"), ("true", True), ("false", False)):
        config = load(tmp_path / "net.toml", (f"data.standardize={text}",))
        assert config.data.standardize == value

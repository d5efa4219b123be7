"""Reading: layouts, scale, targets, standardisation, and a stream that is a pure function of its
position.
"""

import hashlib
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnopt.data import order as order_module
from gnopt.data.options import DataSettings
from gnopt.data.order import choose_order
from gnopt.data.source import open_data
from gnopt.errors import DataError
from gnopt.machine import free_memory
from gnopt.notes import shown_by

ROWS = 1000


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1000 rows of (4, 5) bytes with a scale, labels, soft targets; the first number tells the
    row.
    """
    path = tmp_path_factory.mktemp("flat") / "flat.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        x = rng.integers(0, 255, (ROWS, 4, 5), dtype=np.uint16)
        x[:, 0, 0] = np.arange(ROWS)
        file.create_dataset("x", data=x, chunks=(20, 4, 5), compression="gzip").attrs["scale"] = 0.5
        file["y"] = (np.arange(ROWS) % 7).astype(np.uint8)
        file["soft"] = rng.random((ROWS, 3))
    return path


def opened(path: Path, *, seed: int = 3, dtype: str = "float32", **settings):
    section = DataSettings(file=str(path), split="end", **settings)
    return open_data(section, seed=seed, dtype=dtype)


def row_numbers(x: np.ndarray) -> np.ndarray:
    return np.rint(x[:, 0] / 0.5).astype(int)


def write(path: Path, **arrays) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name.replace("__", "/")] = array
    return path


def test_rows_in_file_order_are_the_scaled_numbers(flat):
    with h5py.File(flat) as file:
        expected = (file["x"][:].reshape(ROWS, 20) * 0.5).astype(np.float32)
    with opened(flat, validation=0) as data:
        x, y = data.train.rows_at(0, ROWS)
        assert x is y
        assert x.dtype == np.float32
        assert x.flags.c_contiguous
        np.testing.assert_array_equal(x, expected)
        np.testing.assert_array_equal(
            np.concatenate([c[0] for c in data.train.chunks(333)]), expected
        )
        assert len(data.train.rows_at(990, 2000)[0]) == 10
    assert data.train.rows == ROWS
    assert data.train.inputs == 20
    assert data.validation is None
    assert data.test is None


def test_the_fraction_is_held_out_at_the_end(flat):
    with opened(flat, validation=0.25) as data:
        assert data.train.rows == 750
        assert list(row_numbers(data.validation.rows_at(0, 250)[0])) == list(range(750, 1000))
        assert set(row_numbers(data.train.batch(0, 750)[0])) == set(range(750))


@pytest.mark.parametrize("memory", ["auto", "5KB"])
@pytest.mark.parametrize("targets", ["inputs", "y", "soft"])
def test_the_stream_is_a_pure_function_of_the_position(flat, memory, targets):
    with opened(flat, memory=memory, targets=targets) as data:
        assert data.train.in_memory == (memory == "auto")
        x, y = data.train.batch(0, 3 * ROWS)
        straight = [data.train.batch(s, 130) for s in range(0, 2600, 130)]
        np.testing.assert_array_equal(np.concatenate([b[0] for b in straight]), x[:2600])
        np.testing.assert_array_equal(np.concatenate([b[1] for b in straight]), y[:2600])
    for start, count in [(1777, 50), (5, 1), (899, 3), (0, 900), (1777, 50)]:
        with opened(
            flat, memory=memory, targets=targets
        ) as data:  # a resumed run: opened anew, in mid-epoch
            again_x, again_y = data.train.batch(start, count)
            np.testing.assert_array_equal(again_x, x[start : start + count])
            np.testing.assert_array_equal(again_y, y[start : start + count])


@pytest.mark.parametrize("memory", ["auto", "40KB", "10KB", "2KB", 500])
def test_an_epoch_visits_every_row_once_and_epochs_differ(flat, memory):
    with opened(flat, memory=memory) as data:
        rows = data.train.rows
        epochs = [row_numbers(data.train.batch(e * rows, rows)[0]) for e in range(3)]
        for epoch in epochs:
            assert sorted(epoch) == list(range(rows))
        assert (epochs[0] != epochs[1]).mean() > 0.9
        assert (epochs[0] != np.arange(rows)).mean() > 0.9
    with opened(flat, memory=memory, seed=4) as other:
        assert (row_numbers(other.train.batch(0, rows)[0]) != epochs[0]).mean() > 0.9


def test_targets_stay_with_their_rows_out_of_core(flat):
    with opened(flat, memory="5KB", targets="y", standardize=False) as data:
        x, y = data.train.batch(100, 2000)
        np.testing.assert_array_equal(y, row_numbers(x) % 7)
        assert y.dtype == np.int64


def test_the_numbers_do_not_depend_on_where_the_rows_are_held(flat, monkeypatch):
    # groups smaller than the set: the order in memory is then that of blocks, as on disk
    monkeypatch.setattr(order_module, "BLOCK_BYTES", 1200)
    monkeypatch.setattr("gnopt.data.source.GROUP_BYTES", 5000)
    with opened(flat, targets="soft") as held, opened(flat, targets="soft", memory="15KB") as read:
        assert held.train.in_memory
        assert not read.train.in_memory
        for one, other in zip(held.train.batch(70, 2500), read.train.batch(70, 2500), strict=True):
            np.testing.assert_array_equal(one, other)
        for one, other in zip(
            held.validation.rows_at(3, 80), read.validation.rows_at(3, 80), strict=True
        ):
            np.testing.assert_array_equal(one, other)
        assert held.train.moments().mean.tobytes() == read.train.moments().mean.tobytes()


@given(
    rows=st.integers(1, 400),
    row_bytes=st.integers(1, 64),
    chunk=st.integers(1, 500),
    group_bytes=st.integers(64, 4000),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 3),
)
@settings(max_examples=150, deadline=None)
def test_every_order_covers_an_epoch_within_its_memory(
    rows, row_bytes, chunk, group_bytes, seed, epoch
):
    order = choose_order(seed, rows, row_bytes, chunk, group_bytes)
    position, seen = epoch * rows, []
    while position < (epoch + 1) * rows:
        group = order.at(position)
        assert group.first == position
        assert group.rows * row_bytes <= group_bytes
        assert order.at(position + group.rows - 1).index == group.index
        seen.append(order.row_numbers(group))
        position += group.rows
    assert position == (epoch + 1) * rows
    assert sorted(np.concatenate(seen)) == list(range(rows))


def test_blocks_are_whole_chunks():
    order = choose_order(0, 10**6, 784, 500)
    assert order.block % 500 == 0
    assert order.block * order.group * 784 <= order_module.GROUP_BYTES


def test_rows_out_of_core_are_read_in_few_long_pieces(flat, monkeypatch):
    from gnopt.data.hdf5 import Column

    pieces = []
    read_into = Column.read_into

    def watched(self, buffer, at, start, stop):
        pieces.append((start, stop))
        read_into(self, buffer, at, start, stop)

    monkeypatch.setattr(Column, "read_into", watched)
    with opened(flat, memory="16KB", validation=0) as data:
        data.train.batch(0, ROWS)
    first_epoch = pieces[: ROWS // 20]
    assert all(start % 20 == 0 and stop - start == 20 for start, stop in first_epoch)
    assert len(set(first_epoch)) == ROWS // 20


def test_targets_labels_soft_and_booleans(tmp_path):
    path = write(
        tmp_path / "t.h5",
        x=np.arange(12.0).reshape(6, 2),
        labels=np.arange(6, dtype=np.int8),
        flags=np.array([True, False] * 3),
        column=np.arange(6, dtype=np.int32)[:, None],
        cube=np.ones((6, 2, 3)),
        real=np.linspace(0, 1, 6),
    )
    expected = {
        "labels": (np.int64, (), (6,)),
        "flags": (np.int64, (), (6,)),
        "real": (np.float32, (), (6,)),
        "column": (np.float32, (1,), (6, 1)),
        "cube": (np.float32, (6,), (6, 6)),
    }
    for name, (dtype, target_shape, shape) in expected.items():
        with opened(path, targets=name, validation=0) as data:
            y = data.train.rows_at(0, 6)[1]
            assert (y.dtype, data.target_shape, y.shape) == (dtype, target_shape, shape)


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", ">i2", "uint16", "int32", "<u8", "float16", ">f4", "f8"]
)
def test_every_numeric_type_is_read(tmp_path, dtype):
    values = (np.arange(24).reshape(8, 3) % 5).astype(dtype)
    path = write(tmp_path / "d.h5", x=values)
    with opened(path, dtype="float64", validation=0) as data:
        np.testing.assert_array_equal(data.train.rows_at(0, 8)[0], values.astype(np.float64))
        assert sorted(data.train.batch(0, 8)[0].sum(axis=1)) == sorted(
            values.astype(np.float64).sum(axis=1)
        )


def test_one_number_a_row_is_one_input(tmp_path):
    with opened(write(tmp_path / "one.h5", x=np.arange(5.0)), validation=0) as data:
        assert data.train.rows_at(0, 5)[0].shape == (5, 1)


def test_groups_of_the_file_are_the_splits(tmp_path):
    x = np.arange(40.0).reshape(20, 2)
    path = write(
        tmp_path / "g.h5",
        train__x=x,
        train__y=np.arange(20),
        validation__x=x[:4] + 100,
        validation__y=np.arange(4),
        test__x=x[:3] + 200,
        extra__x=x[:5] + 300,
    )
    with opened(path) as data:
        assert (data.train.rows, data.validation.rows, data.test.rows) == (20, 4, 3)
        assert data.validation.rows_at(0, 1)[0][0, 0] == 100
    with opened(path, validation=0.2) as data:  # another fraction is taken at its word
        assert (data.train.rows, data.validation.rows) == (16, 4)
        assert data.validation.rows_at(0, 1)[0][0, 0] == 32
    with opened(path, validation="extra") as data:
        assert data.validation.rows == 5
    with opened(path, validation=0) as data:
        assert data.validation is None
        assert data.train.rows == 20
    with opened(path, targets="y") as data:
        assert data.test is None  # it has no targets
    with opened(path, inputs="train/x", targets="/train/y") as data:
        assert data.validation.rows == 4


def test_standardized_inputs(tmp_path):
    x = np.random.default_rng(1).normal(1e4, 0.1, (500, 3))
    x[:, 1] = 0.1  # constant
    path = write(tmp_path / "s.h5", x=x)
    with opened(path, standardize=True, validation=0.2) as data:
        z, y = data.train.rows_at(0, 400)
        assert y is z
        np.testing.assert_allclose(z[:, [0, 2]].mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(z[:, [0, 2]].std(axis=0), 1, rtol=1e-5)
        assert np.all(z[:, 1] == 0)
        assert data.statistics.std[1] == 1
        np.testing.assert_allclose(
            data.validation.rows_at(0, 100)[0][:, 0],
            (x[400:, 0] - x[:400, 0].mean()) / x[:400, 0].std(),
            rtol=1e-4,
            atol=1e-5,
        )
        statistics = data.statistics
    with open_data(
        DataSettings(file=str(path), standardize=True, validation=0),
        seed=0,
        dtype="float64",
        statistics=statistics,
    ) as data:
        np.testing.assert_allclose(data.train.rows_at(0, 400)[0], z, rtol=1e-5, atol=1e-6)


def test_statistics_in_pieces_are_those_of_the_whole(flat, monkeypatch):
    monkeypatch.setattr("gnopt.data.split._PASS_BYTES", 8 * 20 * 37)
    with h5py.File(flat) as file:
        x = file["x"][:].reshape(ROWS, 20) * 0.5
    with opened(flat, validation=0) as data:
        mean, std = data.train.moments().statistics()
        np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(std, x.std(axis=0), rtol=1e-12)


@pytest.mark.parametrize("memory", ["auto", "15KB"])
@pytest.mark.parametrize("standardize", ["auto", False])
@pytest.mark.parametrize("name", ["y", "soft", "inputs"])
def test_targets_alone_are_those_of_the_rows(flat, memory, standardize, name):
    with opened(flat, targets=name, memory=memory, standardize=standardize) as data:
        alone = list(data.train.targets(130))
        beside = [y for _, y in data.train.chunks(130)]
        for one, other in zip(alone, beside, strict=True):
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("standardize", ["auto", True, False])
def test_inputs_on_disk_are_read_once_before_training(flat, monkeypatch, standardize):
    from gnopt.data.hdf5 import Column

    rows = []
    read = Column.read

    def watched(self, start, stop):
        if self.width == 20:
            rows.append(stop - start)
        return read(self, start, stop)

    monkeypatch.setattr(Column, "read", watched)
    with opened(flat, targets="y", memory="15KB", standardize=standardize) as data:
        list(data.train.targets(100))
        assert sum(rows) == ROWS  # validation rows, which fit into memory, included


def test_fingerprint_follows_the_content(tmp_path):
    a = write(tmp_path / "a.h5", x=np.zeros((5, 2)))
    with opened(a) as data:
        first = data.fingerprint.record()
    assert first["file"] == "a.h5"
    assert first["sha256"] == hashlib.sha256((tmp_path / "a.h5").read_bytes()).hexdigest()
    assert first["datasets"] == {"x": {"shape": [5, 2], "dtype": "float64"}}
    with opened(a) as data:
        assert data.fingerprint.difference(first) is None
    with opened(write(tmp_path / "a.h5", x=np.ones((5, 2)))) as data:
        assert data.fingerprint.difference(first) == "its content has changed"
    with opened(write(tmp_path / "a.h5", x=np.ones((500, 2)))) as data:
        assert "bytes, and had" in data.fingerprint.difference(first)


def test_all_of_a_file_that_is_not_very_large_is_compared(tmp_path):
    """200 of 70,000 rows lie between samples of the file."""
    path = tmp_path / "l.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (70_000, 1000), "u1", chunks=(1000, 1000))[:3200:100] = 0
    with opened(path, validation=0) as data:
        record = data.fingerprint.record()
    with h5py.File(path, "a") as file:
        file["x"][3000:3200] = 255
    with opened(path, validation=0) as data:
        assert data.fingerprint.difference(record) is not None


def test_of_a_very_large_file_pieces_are_compared_and_its_time(flat, tmp_path, monkeypatch):
    flat = Path(shutil.copy(flat, tmp_path))
    monkeypatch.setattr("gnopt.data.fingerprint.WHOLE", 1)
    monkeypatch.setattr("gnopt.data.fingerprint.PIECES", 4)
    monkeypatch.setattr("gnopt.data.fingerprint.PIECE", 64)
    said = []
    with shown_by(said.append):
        with opened(flat) as data:
            record = data.fingerprint.record()
            assert data.fingerprint.difference(record) is None
        assert record["pieces"] == 4
        assert said == []
        os.utime(flat, ns=(0, 0))
        with opened(flat) as data:
            assert data.fingerprint.difference(record) is None
        assert len(said) == 1
        assert "was written or copied since the run was started" in said[0]
        content = flat.read_bytes()
        flat.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with opened(flat) as data:
            assert data.fingerprint.difference(record) == "its content has changed"


def test_fingerprints_of_earlier_versions_are_compared(flat, tmp_path):
    flat = Path(shutil.copy(flat, tmp_path))
    content = flat.read_bytes()
    sampled = hashlib.sha256()
    with opened(flat) as data:
        whole = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        assert data.fingerprint.difference(whole | {"sampled": False}) is None
        assert data.fingerprint.difference(whole | {"sampled": True}) is not None
    large = content.ljust(5_000_000, b"\0")
    flat.write_bytes(large)
    for i in range(64):
        start = i * (len(large) - 2**16) // 63
        sampled.update(large[start : start + 2**16])
    with opened(flat) as data:
        former = {"bytes": len(large), "sha256": sampled.hexdigest(), "sampled": True}
        assert data.fingerprint.difference(former | {"modified": flat.stat().st_mtime_ns}) is None


def test_rows_in_memory_cannot_be_changed_by_accident(tmp_path):
    with opened(write(tmp_path / "v.h5", x=np.ones((5, 2), np.float32)), validation=0) as data:
        with pytest.raises(ValueError, match="read-only"):
            data.train.rows_at(0, 2)[0][0, 0] = 7
        data.train.batch(0, 2)[0][:] = 7  # a batch is the caller's own
        assert data.train.rows_at(0, 5)[0].max() == 1


def test_the_file_is_not_kept_open_when_all_rows_are_held(flat):
    with opened(flat), h5py.File(flat, "r+"):
        pass


@pytest.mark.parametrize(
    "memory", ["lots", "", "-3", "2 parsecs", "9" * 400 + "TB", "auto 2", 0, -1, True]
)
def test_a_budget_that_is_not_a_size_is_refused(memory):
    _, (problem,) = DataSettings.parse({"file": "x.h5", "memory": memory}, "data")
    assert str(problem) == (
        f'data.memory = {memory!r}: expected "auto", a number of bytes, or a size such as "500MB", '
        '"2GB" or "1.5GiB"'
    )


def test_sizes_are_read_with_their_units():
    sizes = {7: 7, "7": 7, "2KB": 2000, "1.5 GiB": 3 * 2**29, "3mb": 3 * 10**6}
    found = {v: DataSettings(file="", memory=v).memory_bytes() for v in sizes}
    assert found == sizes
    assert 0 < DataSettings(file="", memory=" Auto").memory_bytes() <= free_memory()


def test_a_row_larger_than_the_budget_is_refused(flat):
    with pytest.raises(DataError, match="one row needs 40 bytes"):
        opened(flat, memory=50)

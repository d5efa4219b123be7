"""Tables of records in HDF5 and NPY files are trained on and imported like other tables."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from gnopt.data.classes import LabelRule
from gnopt.data.formats import ImportSettings
from gnopt.data.importing import import_data
from gnopt.data.info import describe_file
from gnopt.data.options import DataSettings
from gnopt.data.source import open_data
from gnopt.data.table.reading import is_table
from gnopt.errors import DataError

ROWS = 24
RECORDS = np.zeros(ROWS, [("a", ">f8"), ("b", "f4"), ("y", "S3")])
RECORDS["a"], RECORDS["b"] = np.linspace(-1, 1, ROWS), np.arange(ROWS) % 5
RECORDS["y"] = np.where(RECORDS["a"] > 0, b"yes", b"no")


def hdf5(path: Path, **arrays) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


@pytest.mark.parametrize("kind", ["h5", "npy"])
def test_records_are_imported_with_words_as_labels(tmp_path, kind):
    source = hdf5(tmp_path / "t.h5", table=RECORDS)
    if kind == "npy":
        source = tmp_path / "t.npy"
        np.save(source, RECORDS)
    import_data(source, tmp_path / "out.h5", ImportSettings("a,b", "y"))
    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_allclose(file["x"][:, 0], RECORDS["a"])
        np.testing.assert_array_equal(file["y"], RECORDS["a"] > 0)
        assert list(file["y"].attrs["classes"]) == ["no", "yes"]


@pytest.mark.parametrize("inputs", ["x", "table", "a"])
def test_records_are_trained_on(tmp_path, inputs):
    path = hdf5(tmp_path / "t.h5", table=RECORDS)
    settings = DataSettings(file=str(path), inputs=inputs, targets="y", validation=0)
    rule = LabelRule("softmax_cross_entropy", np.inf)
    with open_data(settings, seed=0, dtype="float64", labels=rule) as data:
        assert data.inputs == (1 if inputs == "a" else 2)
        np.testing.assert_array_equal(data.train.rows_at(0, ROWS)[1], RECORDS["a"] > 0)
        assert data.classes.names == ("no", "yes")


def test_a_frame_of_pandas_is_imported_without_its_index(tmp_path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    frame = pd.DataFrame({"a": RECORDS["a"], "y": RECORDS["y"].astype(str)})
    frame.to_hdf(tmp_path / "f.h5", key="df", format="table", data_columns=True)
    import_data(tmp_path / "f.h5", tmp_path / "out.h5", ImportSettings(targets="y"))
    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_allclose(file["x"][:, 0], RECORDS["a"])


def test_a_table_beside_arrays_does_not_make_the_file_a_table(tmp_path):
    path = hdf5(tmp_path / "m.h5", images=np.ones((5, 2)), notes=RECORDS)
    assert not is_table(path)
    assert is_table(hdf5(tmp_path / "t.h5", table=RECORDS, version=3))
    settings = DataSettings(file=str(path), inputs="notes", targets="y", validation=0)
    with open_data(settings, seed=0, dtype="float64") as data:
        assert data.train.rows == ROWS


def test_one_of_several_tables_is_asked_for(tmp_path):
    path = hdf5(tmp_path / "two.h5", first=RECORDS, second=RECORDS[:5])
    with pytest.raises(DataError, match="holds the tables first, second; expected one"):
        import_data(path, tmp_path / "out.h5", ImportSettings(targets="y"))
    settings = DataSettings(file=str(path), inputs="second", targets="y", validation=0)
    with open_data(settings, seed=0, dtype="float64") as data:
        assert data.train.rows == 5


def test_info_lists_tables_words_and_groups_by_names(tmp_path):
    facts = describe_file(hdf5(tmp_path / "t.h5", table=RECORDS))
    assert facts["datasets"][0]["shape"] == [ROWS, 3]
    assert "a table with columns a, b, y" in facts["datasets"][0]["note"]
    assert facts["problem"] is None
    words = describe_file(hdf5(tmp_path / "w.h5", x=np.eye(ROWS), y=RECORDS["y"]))
    assert words["datasets"][1]["note"] == "words, labels of a loss of classes: no, yes"
    assert words["splits"]["train"]["target_shape"] == []
    names = {"x_train": np.eye(ROWS), "y_train": RECORDS["a"], "x_test": np.eye(ROWS)[:3]}
    keras = describe_file(hdf5(tmp_path / "k.h5", **names, y_test=RECORDS["a"][:3]))
    assert keras["targets"] == "y"
    assert keras["splits"]["test"] == {"rows": 3, "inputs": ROWS, "target_shape": []}

"""Tables in HDF5 as pandas, PyTables and h5py write them, read without any of the first two."""

import pickle
import warnings

import h5py
import numpy as np
import pytest

from gnopt.data.hdf5_frames import find_frames, is_frame, read_frame
from gnopt.data.plain_pickle import NotPlain, Opaque, object_array, plain_values
from gnopt.errors import DataError

pd = pytest.importorskip("pandas")
DATES = ["2020-01-01", "2021-05-05", None]
FRAME = pd.DataFrame(
    {
        "a": [1.0, 2.0, np.nan],
        "b": [1, 2, 3],
        "c": [True, False, True],
        "kind": ["cat", "dög", None],
        "when": pd.to_datetime(DATES),
        "f": np.array([1, 2, 3], "f4"),
        "mate": ["dog", "dog", "cat"],
    },
    index=pd.Index([10, 20, 30], name="ident"),
)
GROUPED = FRAME.assign(k=pd.Categorical(["x", None, "y"], ["y", "x"]))
LEVELS = FRAME.set_index(pd.MultiIndex.from_arrays([["u", "v", "w"], [1, 2, 3]], names=["p", "q"]))
FRAMES = {
    "fixed": (FRAME, {}),
    "table": (GROUPED, {"format": "table"}),
    "columns of a table": (GROUPED, {"format": "table", "data_columns": True}),
    "one column of a table": (GROUPED, {"format": "table", "data_columns": ["kind"]}),
    "compressed": (FRAME, {"format": "table", "complevel": 5, "complib": "zlib"}),
    "series": (FRAME["a"], {}),
    "series in a table": (FRAME["a"], {"format": "table"}),
    "levels": (LEVELS, {}),
    "levels in a table": (LEVELS, {"format": "table"}),
    "dates": (FRAME[["a", "b"]].set_index(pd.to_datetime([*DATES[:2], "2022-02-02"])), {}),
    "words as index": (FRAME[["a", "b"]].set_index(pd.Index(["p", "q", "r"])), {}),
    "numbered columns": (pd.DataFrame(np.eye(3)), {}),
    "numbered columns in a table": (pd.DataFrame(np.eye(3)), {"format": "table"}),
}


@pytest.mark.parametrize("case", FRAMES)
def test_frames_of_pandas_are_read_as_pandas_reads_them(tmp_path, case):
    pytest.importorskip("tables")
    frame, how = FRAMES[case]
    path = tmp_path / "frame.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # words in a fixed format are slow, pandas says
        frame.to_hdf(path, key="here/df", **how)
    expected = frame if isinstance(frame, pd.DataFrame) else frame.to_frame()
    expected.columns = expected.columns.map(str)
    with h5py.File(path) as file:
        assert find_frames(file) == ["here/df"]
        assert is_frame(file, "here/df")
        assert not is_frame(file, "here")
        found = read_frame(file, "here/df")
    pd.testing.assert_frame_equal(found, expected, check_freq=False, check_column_type=False)


def test_tables_of_pytables_are_records(tmp_path):
    tables = pytest.importorskip("tables")

    class Row(tables.IsDescription):
        number = tables.Float32Col(pos=0)
        flag = tables.BoolCol(pos=1)
        word = tables.StringCol(8, pos=2)
        pair = tables.Int64Col(shape=(2,), pos=3)
        colour = tables.EnumCol(["red", "green"], "red", "uint8", pos=4)

        class inner(tables.IsDescription):
            _v_pos = 5
            x = tables.Float64Col()

    with tables.open_file(tmp_path / "t.h5", "w") as file:
        table = file.create_table("/deep", "rows", Row, createparents=True)
        table.append([(0.5, True, b"cat", (1, 2), 1, (7.0,)), (1.5, False, b"", (3, 4), 0, (8.0,))])
        table.cols.number.create_index()
    with h5py.File(tmp_path / "t.h5") as file:
        assert find_frames(file) == ["deep/rows"]
        found = read_frame(file, "deep/rows")
    assert found.astype(object).to_dict("list") == {
        "number": [0.5, 1.5],
        "flag": [True, False],
        "word": ["cat", ""],
        "pair_0": [1, 3],
        "pair_1": [2, 4],
        "colour": ["green", "red"],
        "inner.x": [7.0, 8.0],
    }


def test_records_of_h5py_are_a_table_and_arrays_are_not(tmp_path):
    records = np.zeros(2, [("a", ">f8"), ("word", h5py.string_dtype()), ("u", "S3")])
    records["a"], records["word"], records["u"] = [1, 2], ["äh", "b"], [b"x", b"yes"]
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file["table"], file["x"] = records, np.eye(2)
        assert find_frames(file) == ["table"]
        assert not is_frame(file, "x")
        assert not is_frame(file, "nothing")
        found = read_frame(file, "table")
    assert found.to_dict("list") == {"a": [1.0, 2.0], "word": ["äh", "b"], "u": ["x", "yes"]}


def test_objects_that_pandas_pickled_are_refused_and_never_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was run",))

    content = np.frombuffer(pickle.dumps(Evil()), np.uint8)
    with h5py.File(tmp_path / "e.h5", "w") as file:
        group = file.create_group("df")
        group.attrs.update(pandas_type=b"frame", nblocks=1)
        block = group.create_dataset("block0_values", (1,), h5py.vlen_dtype(np.uint8))
        block[0] = content
        block.attrs["PSEUDOATOM"] = np.bytes_(b"object")
        with pytest.raises(DataError, match=r'/df: .* never loads .*format="table"'):
            read_frame(file, "df")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value",
    [["a", "b", "a"], [(1, ["x", 2, 1.5, None, True])], {"k": {"n": "v"}, 1: ()}, "word", 2**70],
)
def test_plain_values_of_a_pickle(protocol, value):
    assert plain_values(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_of_words(protocol, order):
    words = np.array([["a", "b", None], ["a", "c", "d"]], dtype=object, order=order)
    np.testing.assert_array_equal(object_array(pickle.dumps(words, protocol)), words)


def test_calls_of_a_pickle_are_marked_and_damage_is_told():
    assert plain_values(pickle.dumps([np.float64]))[0] == Opaque()
    for content in (b"", b"(lp0", b"\x80\x04\x95garbage", pickle.dumps(["a"])[:-4]):
        with pytest.raises(NotPlain):
            plain_values(content)

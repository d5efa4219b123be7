"""Tables as people have them: forms of text, missing cells, categories, dates, names of rows."""

import gzip
import io
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnopt.data.options import DataSettings
from gnopt.data.roles import Roles, TableForm
from gnopt.data.source import open_data
from gnopt.data.table.cells import numbers_of, parse_number
from gnopt.data.table.encoding import Encoding
from gnopt.data.table.form import Table
from gnopt.data.table.formats import all_formats
from gnopt.data.table.reading import is_table, read_table, tidy
from gnopt.errors import DataError


def frame_of(tmp_path, text, name="t.csv", **form):
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / name).write_bytes(content)
    return read_table(tmp_path / name, TableForm(**form))


def learn(frame, **roles):
    return Encoding.learn(tidy(Table("t", frame)), Roles(**roles))


@pytest.mark.parametrize(
    ("text", "names", "first"),
    [
        ("a,b\n1,2\n3,4\n", ["a", "b"], [1, 2]),
        ("a;b\n1,5;2\n3,25;4\n", ["a", "b"], [1.5, 2]),
        ("5,1;3,5\n4,9;3,0\n", ["0", "1"], [5.1, 3.5]),
        ('"length, cm";"width, cm"\n5.1;3.5\n4.9;3.0\n', ["length, cm", "width, cm"], [5.1, 3.5]),
        ("a\tb\r\n1\t2\r\n3\t4\r\n", ["a", "b"], [1, 2]),
        ("a b  c\n1 2 3\n4 5 6\n", ["a", "b", "c"], [1, 2, 3]),
        ("1|2\n3|4\n", ["0", "1"], [1, 2]),
        ("0,1,2\n5.5,2.5,1.5\n6.5,3.5,1.5\n", ["0", "1", "2"], [5.5, 2.5, 1.5]),
        ("1100,1102,1104\n.1,.2,.3\n.4,.5,.6\n", ["1100", "1102", "1104"], [0.1, 0.2, 0.3]),
        ("# by a logger\n# 2020\na,b\n1,2\n3,4\n", ["a", "b"], [1, 2]),
        ("sep=;\na;b\n1;2\n3;4\n", ["a", "b"], [1, 2]),
        ("a;b\n€ 1.000,50;2\n€ 2.000,00;4\n", ["a", "b"], [1000.5, 2]),
        ("a,a\n1,2\n3,4\n", ["a", "a.1"], [1, 2]),
        ("1,2,3\n4,5,6\n2,2,2\n", ["1", "2", "3"], [4, 5, 6]),
        ("7,2,3\n4,5,6\n", ["0", "1", "2"], [7, 2, 3]),
        ("\ufeffx,y\n-1,1\n300,2\n", ["x", "y"], [-1, 1]),
        ('a,b\n"1,234.5",2\n"2,000",4\n', ["a", "b"], [1234.5, 2]),
    ],
)
def test_text_in_every_dialect(tmp_path, text, names, first):
    table = frame_of(tmp_path, text)
    assert list(table.frame.columns) == names
    found = [numbers_of(table.frame[name], table.decimal)[0][0] for name in names]
    np.testing.assert_allclose(found, first)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_tell_themselves(tmp_path, encoding):
    table = frame_of(tmp_path, "größe,y\n1,é\n2,b\n".encode(encoding))
    assert list(table.frame.columns) == ["größe", "y"]
    assert table.frame["y"].iloc[0] == "é"


def test_another_encoding_is_asked_for(tmp_path):
    with pytest.raises(DataError, match=r"byte 0xf6 in line 1; set data\.encoding"):
        frame_of(tmp_path, "größe,y\n1,2\n".encode("latin-1"))
    table = frame_of(tmp_path, "größe,y\n1,2\n".encode("latin-1"), encoding="latin-1")
    assert list(table.frame.columns) == ["größe", "y"]
    with pytest.raises(DataError, match="'latinx': no such encoding"):
        frame_of(tmp_path, "a,b\n1,2\n", encoding="latinx")


def test_every_format_holds_the_same_table(tmp_path):
    frame = pd.DataFrame({"a": [1.5, 2.5], "word": ["x", "y"]})
    for form in all_formats().values():
        for suffix in form.suffixes:
            path = tmp_path / f"t{suffix}"
            if form.writer is not None:
                with path.open("wb") as file:
                    form.writer(frame, file, path.name)
            elif suffix == ".xlsx":
                frame.to_excel(path, index=False)
            else:
                continue
            assert is_table(path), path
            pd.testing.assert_frame_equal(
                read_table(path).frame, frame, check_column_type=False, check_dtype=False
            )
    text = frame.to_csv(index=False).encode()
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text))
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("inner.csv", text)
    for name in ("t.csv.gz", "t.zip"):
        assert list(read_table(tmp_path / name).frame["word"]) == ["x", "y"]
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros(3))
    (tmp_path / "a.npz").write_bytes(buffer.getvalue())
    assert not is_table(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "no rows"),
        ("a,b\n1,2\n3,4,5\n", "line 3 has 3 cells; expected 2"),
        (b"a,b\n1,\0\n", "not a table"),
    ],
)
def test_text_that_is_no_table(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        frame_of(tmp_path, text)


@given(
    st.floats(-1e6, 1e6).map(lambda v: round(v, 3)),
    st.sampled_from([",", " ", "'", ""]),
)
def test_numbers_with_thousands_are_read_back(value, mark):
    text = f"{value:,.3f}".replace(",", mark)
    assert parse_number(text) == value
    german = f"{value:,.3f}".replace(",", "\0").replace(".", ",").replace("\0", ".")
    assert parse_number(german, ",") == value


def test_names_of_rows_are_no_inputs(tmp_path):
    rows = "".join(f"{k},{k % 7}.5,{'ab'[k % 2]}\n" for k in range(1, 31))
    for first in ("", "Unnamed: 0", "rownames", "index"):
        table = frame_of(tmp_path, f"{first},x,y\n{rows}")
        assert list(table.frame.columns) == ["x", "y"]
        assert any("counts the rows" in note for note in table.notes)
    # As R writes it, the names of the rows have no name.
    table = frame_of(tmp_path, f"x,y\n{rows}")
    assert list(table.frame.columns) == ["x", "y"]
    encoding = learn(
        pd.DataFrame(
            {
                "customer_id": range(30),
                "name": [f"n{k}" for k in range(30)],
                "x": np.arange(30) % 7,
                "again": np.arange(30) % 7,
                "same": 1,
                "empty": [None] * 30,
                "y": np.arange(30) % 2,
            }
        ),
        targets="y",
    )
    assert encoding.features == ["x"]
    assert encoding.names_rows == ("customer_id", "name")
    assert {note.split(":")[0] for note in encoding.notes} >= {
        "customer_id",
        "name",
        "again",
        "same",
        "empty",
    }


TRAINING = pd.DataFrame(
    {
        "age": [30.0, np.nan, 25.0, 40.0] * 10,
        "sex": ["male", "female"] * 20,
        "town": ["A"] * 15 + ["B"] * 15 + ["C"] * 8 + ["D", "E"],
        "day": ["2020-01-01", "2020-01-03"] * 20,
        "income": [1.0, 2.0, 3.0, 4.0] * 9 + [2.0, 3.0, 1.0, 1e6],
        "y": ["no", "yes", "no", None] * 10,
    }
)


def test_columns_become_numbers():
    roles = Roles(targets="y")
    table = Table("t", TRAINING)
    encoding = Encoding.learn(table, roles)
    assert encoding.features == [
        "age",
        "age missing",
        "sex = male",
        "town = A",
        "town = B",
        "town = C",
        "town = (other)" if "town = (other)" in encoding.features else "town = D",
        *(["town = E"] if "town = E" in encoding.features else []),
        "day",
        "income",
    ]
    assert encoding.classes == ("no", "yes")
    found = encoding.encode(table)
    assert len(found.x) == 30  # a row without a target is left out
    assert list(found.y[:3]) == [0, 1, 0]
    column = dict(zip(encoding.features, found.x.T, strict=True))
    assert column["age"][1] == 25.0  # the median, which occurs
    assert list(column["age missing"][:3]) == [0, 1, 0]
    assert column["day"][1] - column["day"][0] == 2
    assert np.abs(column["income"]).max() < 20  # compressed
    assert Encoding.from_json(encoding.to_json(), "here") == encoding
    with pytest.raises(DataError, match="here: the encoding of the table is damaged"):
        Encoding.from_json(encoding.to_json().replace('"kind"', '"kin"'), "here")


def test_new_rows_are_encoded_as_those_of_training():
    encoding = Encoding.learn(Table("t", TRAINING), Roles(targets="y"))
    new = TRAINING.iloc[:4][["town", "income", "sex", "age", "day"]].copy()  # other order
    known = encoding.encode(Table("n", new), targets=False)
    whole = encoding.encode(Table("t", TRAINING), targets=False)
    np.testing.assert_array_equal(known.x, whole.x[:4])
    new["sex"] = ["male", "other", None, "female"]
    new["income"] = [1, "x", 3, None]
    odd = encoding.encode(Table("n", new), targets=False)
    assert list(odd.x[:, encoding.features.index("sex = male")]) == [1, 0.5, 0.5, 0]
    assert np.isfinite(odd.x).all()
    text = "\n".join(odd.notes)
    assert "sex: 1 cells hold words that the training table lacks, such as 'other'" in text
    assert "sex: 1 missing cells" in text
    assert "income: 1 cells are no numbers, such as 'x'" in text
    with pytest.raises(DataError, match=r"no column 'income'.*did you mean 'incom'"):
        encoding.encode(Table("n", new.rename(columns={"income": "incom"})), targets=False)


def test_a_table_without_names_matches_by_place():
    frame = pd.DataFrame({"0": [0, 1] * 15, "1": np.arange(30) % 5, "2": np.arange(30) % 7})
    encoding = Encoding.learn(Table("t", frame, named=False), Roles(targets="0"))
    new = pd.DataFrame({"0": np.arange(4), "1": np.arange(4)})
    found = encoding.encode(Table("n", new, named=False), targets=False)
    np.testing.assert_array_equal(found.x, new.to_numpy(dtype=float))


@settings(max_examples=25)
@given(
    st.lists(
        st.sampled_from(["1", "2.5", "", "NA", "x", "-3e2", "1,000", "yes", "2020-01-02", "inf"]),
        min_size=3,
        max_size=30,
    )
)
def test_any_column_becomes_finite_numbers(cells):
    frame = pd.DataFrame({"a": cells, "b": np.arange(len(cells)) % 3, "c": np.arange(len(cells))})
    encoding = learn(frame, targets="c")
    found = encoding.encode(Table("t", frame))
    assert np.isfinite(found.x).all()
    assert found.x.shape == (len(found.y), len(encoding.features))


def test_targets_that_cannot_be_used():
    with pytest.raises(DataError, match=r"row 12 \(from 0\): the target 'y' is 'four'"):
        learn(pd.DataFrame({"x": range(13), "y": ["1"] * 12 + ["four"]}), targets="y")
    with pytest.raises(DataError, match="holds words; expected numbers in each of 2"):
        learn(pd.DataFrame({"x": [1, 2], "y": ["a", "b"], "z": [1, 2]}), targets="y,z")
    with pytest.raises(DataError, match=r"data\.targets = 'yy': no column 'yy'.*did you mean 'y'"):
        learn(pd.DataFrame({"x": [1, 2], "y": [1, 2]}), targets="yy")
    with pytest.raises(DataError, match="is a target and an input"):
        learn(pd.DataFrame({"x": [1, 2], "y": [1, 2]}), targets="y", inputs="x,y")


def test_training_opens_a_table_as_data(tmp_path):
    TRAINING.to_csv(tmp_path / "t.csv", index=False)
    section = DataSettings(file=str(tmp_path / "t.csv"), targets="y", standardize=True)
    before = (tmp_path / "t.csv").read_bytes()
    with open_data(section, seed=0, dtype="float64") as data:
        assert (data.train.rows, data.validation.rows) == (27, 3)
        assert data.train.inputs == len(data.encoding.features)
        x, y = data.train.rows_at(0, 99)
        np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-9)
        assert set(y) == {0, 1}
        assert "10 rows without a target are left out" in data.notes
    assert (tmp_path / "t.csv").read_bytes() == before
    with pytest.raises(DataError, match=r"data\.memory allows"):
        open_data(section.changed(memory="100"), seed=0, dtype="float64")

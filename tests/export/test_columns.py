"""Models take the columns of a table as they are, and code says what its inputs are."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from library import COMPILERS, Library
from nets import alone, network, predictions

from gnopt.data.roles import Roles
from gnopt.data.table.encoding import Encoding
from gnopt.data.table.form import Table
from gnopt.data.table.kinds import InputColumn, all_kinds
from gnopt.data.table.kinds.category import Category
from gnopt.engine.arrays.numpy import NumpyBackend
from gnopt.errors import GnoptError
from gnopt.export import export
from gnopt.export.columns import form_of
from gnopt.export.onnx import model
from gnopt.training.checkpoint import StoredNetwork
from gnopt.training.content import Content

onnxruntime = pytest.importorskip("onnxruntime")

ROWS = 60
OPS = NumpyBackend()


def frame(seed: int = 0) -> pd.DataFrame:
    """A table with every kind of column; two of each have missing cells."""
    rng = np.random.default_rng(seed)
    made = pd.DataFrame(
        {
            "age": rng.integers(18, 80, ROWS).astype(float),
            "income": np.exp(rng.normal(10.0, 3.0, ROWS)),
            "gap": rng.normal(size=ROWS),
            "input": rng.random(ROWS) < 0.5,  # what the model calls a value of its own
            "city": rng.choice(["Bonn", "Rom", "Oslo"], ROWS),
            "rare": rng.choice(["a", "b", "c"], ROWS),
            "sex": rng.choice(["f", "m"], ROWS),
            "answer": rng.choice(["yes", "no"], ROWS),
            "since": pd.Timestamp("2001-03-01") + pd.to_timedelta(rng.integers(0, 999, ROWS), "D"),
            "until": pd.Timestamp("2011-03-01") + pd.to_timedelta(rng.integers(0, 999, ROWS), "D"),
        }
    )
    made.loc[:8, "rare"] = [f"only {row}" for row in range(9)]
    made.loc[::7, "gap"] = np.nan
    made.loc[::9, ["rare", "answer"]] = None
    made.loc[::8, "until"] = pd.NaT
    made["income"] = made["income"].clip(upper=1e8)
    return made


def learnt() -> Encoding:
    return Encoding.learn(Table(Path("made.csv"), frame()), Roles())


def transparent(encoding: Encoding, dtype: str) -> Content:
    """A network whose output is its input."""
    width = len(encoding.features)
    weights = np.eye(width, width + 1).astype(dtype)
    return alone(StoredNetwork([weights], [], "squared_error", encoding=encoding))


def cells(table: pd.DataFrame, kind: str, name: str) -> np.ndarray:
    """A column as a model takes it."""
    series = table[name]
    if kind == "tensor(string)":
        return series.fillna("").astype(str).to_numpy(dtype=object)[:, None]
    if series.dtype.kind == "M":
        series = (series - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)
    return series.to_numpy(dtype=np.float64)[:, None]


def run(content: Content, table: pd.DataFrame) -> np.ndarray:
    made = model(content).SerializeToString()
    session = onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])
    columns = [column.name for column in content.encoding.columns]
    feed = {
        entry.name: cells(table, entry.type, name)
        for entry, name in zip(session.get_inputs(), columns, strict=True)
    }
    assert all(name in (own, f"{own} (input)") for name, own in zip(feed, columns, strict=True))
    (output,) = session.run(["prediction"], feed)
    return output


def other() -> pd.DataFrame:
    """Rows with words that were not met, and with cells missing where none was missing before."""
    table = frame(seed=1)
    table.loc[3:6, ["city", "rare", "sex", "answer"]] = "unmet"
    table.loc[5:9, ["age", "gap", "city", "rare", "sex", "answer"]] = np.nan
    table.loc[5:9, ["since", "until"]] = pd.NaT
    table.loc[11, "age"] = np.inf
    table.loc[12:14, "answer"] = ["NA", "null", "?"]
    return table


@pytest.mark.parametrize("rows", [frame, other])
def test_a_model_encodes_columns_as_the_package_does(rows, dtype_name):
    encoding = learnt()
    expected = encoded(encoding, rows())
    found = run(transparent(encoding, dtype_name), rows())
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_the_table_of_these_tests_has_every_form_of_column():
    columns = {column.name: column for column in learnt().columns}
    assert {column.kind for column in columns.values()} == {kind.kind for kind in all_kinds()}
    assert columns["income"].spread > 0.0
    assert columns["gap"].missing
    assert columns["until"].missing
    assert columns["rare"].rare
    assert columns["rare"].missing
    assert columns["sex"].one_number
    assert not columns["answer"].one_number


def test_the_metadata_list_the_columns():
    made = model(transparent(learnt(), "float64"))
    facts = {entry.key: entry.value for entry in made.metadata_props}
    assert json.loads(facts["input_names"]) == list(frame().columns)


def encoded(encoding: Encoding, table: pd.DataFrame) -> np.ndarray:
    return encoding.encode(Table(Path("new.csv"), table)).x


def as_numbers(encoding: Encoding, table: pd.DataFrame) -> np.ndarray:
    """A table as exported code takes it: a number for each column."""
    made = []
    for column in encoding.columns:
        series = table[column.name]
        if isinstance(column, Category):
            numbers = {word: float(number) for number, word in enumerate(column.levels)}
            gone = series.isna() | series.isin(["NA", "null", "?"])
            made.append(series.map(numbers).fillna(-1.0).where(~gone, np.nan).to_numpy(float))
        else:
            made.append(cells(table, "tensor(double)", column.name)[:, 0])
    return np.stack(made, axis=1)


ENCODING = learnt()
TABLES = {
    "transparent": transparent(ENCODING, "float64"),
    **{
        name: alone(
            replace(
                network(["tanh"], "squared_error", inputs=len(ENCODING.features), outputs=outputs),
                encoding=ENCODING,
            )
        )
        for name, outputs in (("by_rows", 3), ("by_columns", 12))
    },
    "raw": alone(
        replace(
            network(
                ["tanh"],
                "squared_error",
                inputs=len(ENCODING.features),
                outputs=12,
                statistics=False,
            ),
            encoding=ENCODING,
        )
    ),
}


@pytest.fixture(scope="module", params=COMPILERS)
def library(request, tmp_path_factory) -> Library:
    return Library(request.param, tmp_path_factory.mktemp("tables"), TABLES)


@pytest.mark.parametrize("rows", [frame, other])
@pytest.mark.parametrize("name", TABLES)
def test_the_code_encodes_columns_as_the_package_does(library, name, rows):
    (expected,) = predictions(TABLES[name], encoded(ENCODING, rows())).values()
    found = library.predict(name, as_numbers(ENCODING, rows()))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", TABLES)
def test_the_code_differentiates_by_columns(library, name):
    """By numbers; a word and a missing cell have no neighbours, so their derivatives are zero."""
    x = as_numbers(ENCODING, frame())[:20]
    found = library.jacobian(name, x)
    assert found.shape[1:] == (TABLES[name].outputs, len(ENCODING.columns))
    for place, column in enumerate(ENCODING.columns):
        if isinstance(column, Category):
            assert (found[:, :, place] == 0.0).all()
            continue
        step = np.zeros_like(x)
        step[:, place] = 1e-4 * np.maximum(np.abs(x[:, place]), 1.0)
        ends = [library.predict(name, x + sign * step) for sign in (1.0, -1.0)]
        slope = (ends[0] - ends[1]) / (2.0 * step[:, place, None])
        slope[np.isnan(x[:, place])] = 0.0
        np.testing.assert_allclose(found[:, :, place], slope, rtol=1e-4, atol=1e-7)


def test_predict_differentiates_by_columns_as_code_does():
    """Where the numbers tell that a cell is missing; `frame` has such cells alone."""
    x = encoded(ENCODING, frame())
    columns = zip(ENCODING.columns, as_numbers(ENCODING, frame()).T, strict=True)
    expected = []
    for column, cells_of in columns:
        slopes = [feature.slope(OPS, cells_of) for feature in form_of(column).features(column)]
        if column.continuous:
            expected.append(np.sum(slopes, axis=0))
        else:
            assert not np.any(slopes)
    found = ENCODING.by_cells(np.ones((ROWS, 2, x.shape[1])), x)
    assert len(expected) == len(ENCODING.continuous)
    for k in range(2):
        np.testing.assert_allclose(found[:, k], np.transpose(expected), rtol=1e-12)


@pytest.mark.parametrize(
    ("suffix", "first", "last"), [(".c", "x[0]", "x[9]"), (".f90", "x(1)", "x(10)")]
)
def test_the_comment_says_what_every_input_is(tmp_path, suffix, first, last):
    export(TABLES["transparent"], tmp_path / f"net{suffix}")
    text = (tmp_path / f"net{suffix}").read_text()
    assert f"{first}  age\n" in text
    assert f"{last}  days from 1970-01-01 to until\n" in text
    assert "the number of city: 0 = Bonn, 1 = Oslo, 2 = Rom, -1 = another word\n" in text


def test_a_kind_without_a_form_is_refused_in_words(tmp_path):
    @dataclass(frozen=True, kw_only=True)
    class Colour(InputColumn):
        kind = "colour"

        @property
        def features(self) -> list[str]:
            return [self.name]

    content = transparent(Encoding(columns=(Colour(name="paint"),)), "float32")
    for name in ("net.onnx", "net.c", "net.f90"):
        with pytest.raises(GnoptError, match=r"column 'paint': .*'colour' have no form.*number"):
            export(content, tmp_path / name)


def test_arrays_come_with_the_names_of_inputs(tmp_path):
    encoding = learnt()
    one = network([], "squared_error", inputs=len(encoding.features))
    one.encoding = encoding
    export(alone(one), tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz") as arrays:
        assert list(arrays["input_names"]) == encoding.features


def test_members_that_take_other_columns_are_refused(tmp_path):
    other = replace(ENCODING, columns=ENCODING.columns[::-1])
    one = TABLES["by_rows"].first
    content = Content("two networks", {1: one, 2: replace(one, encoding=other)})
    for name in ("net.onnx", "net.c"):
        with pytest.raises(GnoptError, match=r"tables with other columns: .*--member N"):
            export(content, tmp_path / name)

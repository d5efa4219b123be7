"""From one's own table to predictions: train, init, evaluate, predict, compare."""

import io
import json
import tomllib

import h5py
import numpy as np
import pandas as pd
import pytest

BRIEF = ("--max-updates", 8, "--set", "network.hidden=[5]", "--set", "optimizer.weight_decay=1e-3")


def make_table(rows=120, seed=0):
    draw = np.random.default_rng(seed)
    size = draw.normal(size=rows)
    colour = draw.choice(["red", "green", "blue"], rows)
    frame = pd.DataFrame(
        {
            "size": size.round(4),
            "colour": colour,
            "price": (1e5 + 3e4 * size + 2e4 * (colour == "red")).round(),
            "kind": np.where(size + 0.3 * draw.normal(size=rows) > 0, "large", "small"),
            "sold": draw.poisson(np.exp(1.5 + 0.5 * size)),
        }
    )
    frame.loc[::10, "size"] = np.nan
    frame.index = [f"row{k}" for k in range(rows)]
    return frame


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_table().to_csv("t.csv", index_label="")
    return tmp_path


def test_three_commands_for_classes(table, gnopt):
    drop = ["--set", "data.drop=price,sold"]
    trained = gnopt("train", "t.csv", "--target", "kind", "--out", "run", *drop, *BRIEF)
    assert trained.code == 0, trained.err
    for said in (
        "t.csv: 120 rows",
        "the first column (without a name) counts the rows",
        "size: 12 missing cells become the median",
        'network.loss = "binary_cross_entropy": kind is large or small',
    ):
        assert said in trained.err
    config = tomllib.loads((table / "run/config.toml").read_text())
    assert config["data"]["targets"] == "kind"
    assert config["training"]["metrics"] == ["accuracy"]
    assert "gnopt predict run t.csv predictions.csv" in trained.out
    scores = json.loads(gnopt("evaluate", "run", "--data", "t.csv", "--json").out)
    assert scores["splits"]["all"]["metrics"]["accuracy"] > 0.7
    # Other rows: columns in another order, a new word, missing cells, no target.
    new = make_table(6, 1)[["colour", "size"]]
    new["colour"] = ["red", "violet", None, "blue", "green", "red"]
    new.to_csv("new.csv", index_label="")
    done = gnopt("predict", "run", "new.csv", "out.csv")
    assert done.code == 0, done.err
    assert "'violet'" in done.err
    found = pd.read_csv("out.csv")
    assert list(found) == ["row", "prediction", "probability large", "probability small"]
    assert list(found["row"]) == list(new.index)
    assert set(found["prediction"]) <= {"large", "small"}
    total = found["probability large"] + found["probability small"]
    np.testing.assert_allclose(total, 1, rtol=1e-9)
    assert ((found["probability large"] > 0.5) == (found["prediction"] == "large")).all()
    text = gnopt("predict", "run", "new.csv", "-").out
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(text)), found)
    for name, read in (("out.parquet", pd.read_parquet), ("out.feather", pd.read_feather)):
        assert gnopt("predict", "run", "new.csv", name).code == 0
        pd.testing.assert_frame_equal(
            read(table / name), found, check_dtype=False, check_column_type=False
        )
    assert gnopt("predict", "run", "new.csv", "out.h5").code == 0
    with h5py.File("out.h5") as file:
        np.testing.assert_allclose(file["x"][:, 0], found["probability small"], rtol=1e-5)
        assert list(file["names/row"].asstr()) == list(new.index)
    again = gnopt("predict", "run", "new.csv", "out.csv")
    assert again.code != 0
    assert "--overwrite" in again.err
    unknown = gnopt("predict", "run", "new.csv", "out.xyz")
    assert unknown.code == 2
    assert ".parquet" in unknown.err
    lacking = new.rename(columns={"colour": "color"})
    lacking.to_csv("lacking.csv")
    result = gnopt("predict", "run", "lacking.csv", "other.csv")
    assert result.code == 1
    assert "no column 'colour'" in result.err
    assert "did you mean 'color'?" in result.err


def test_resumed_equals_uninterrupted_on_a_table(table, gnopt):
    whole = gnopt("train", "t.csv", "--target", "price", "--out", "whole", *BRIEF)
    assert whole.code == 0, whole.err
    first = [*BRIEF[:1], 4, *BRIEF[2:]]
    assert gnopt("train", "t.csv", "--target", "price", "--out", "part", *first).code == 0
    assert gnopt("train", "--resume", "--out", "part", "--max-updates", 8).code == 0
    for run in ("whole", "part"):
        assert gnopt("predict", run, "t.csv", f"{run}.csv", "--checkpoint", "latest").code == 0
    assert (table / "whole.csv").read_bytes() == (table / "part.csv").read_bytes()
    predicted = pd.read_csv("whole.csv")
    assert predicted["prediction"].between(2e4, 2e5).mean() > 0.9  # in units of the target
    assert gnopt("predict", "whole", "t.csv", "best.csv").code == 0
    assert (pd.read_csv("best.csv")["std"] > 0).all()


def test_init_writes_what_train_decides(table, gnopt):
    made = gnopt("init", "t.csv", "--target", "sold", "--out", "c.toml")
    assert made.code == 0, made.err
    text = (table / "c.toml").read_text()
    assert "# sold holds whole numbers from 0" in text
    assert tomllib.loads(text)["network"]["loss"] == "poisson"
    assert gnopt("init", "t.csv", "--target", "sold", "--out", "c.toml").code == 2
    from_file = gnopt("train", "c.toml", "--out", "a", *BRIEF)
    assert from_file.code == 0, from_file.err
    assert gnopt("train", "t.csv", "--target", "sold", "--out", "b", *BRIEF).code == 0
    assert gnopt("predict", "a", "t.csv", "a.csv").code == 0
    assert gnopt("predict", "b", "t.csv", "b.csv").code == 0
    assert (table / "a.csv").read_bytes() == (table / "b.csv").read_bytes()


def test_compare_and_ensembles_of_a_table(table, gnopt):
    told = gnopt(
        "compare", "t.csv", "--target", "kind", "--methods", "kfra,adam", "--dry-run", "--json"
    )
    assert told.code == 0, told.err
    assert json.loads(told.out)["runs"] == 2
    dry = gnopt(
        "train", "t.csv", "--target", "price,sold", "--dry-run", "--set", "training.folds=3"
    )
    assert dry.code == 0, dry.err
    assert "-2\n" in dry.out


@pytest.mark.parametrize(
    ("columns", "target", "code", "words"),
    [
        ({}, None, 2, ["what is to be predicted?", "--target NAME", "price, kind, sold"]),
        ({}, "prise", 1, ["no column 'prise'", "did you mean 'price'?"]),
        ({"id": range(120)}, "id", 2, ["counts through the rows (0 to 119)", "--target"]),
        (
            {"name": [f"n{k // 2}" for k in range(120)]},
            "name",
            2,
            ["60 different words in 120 rows", "n0, n1, n2", "softmax_cross_entropy"],
        ),
        ({"same": ["x"] * 120}, "same", 2, ["'x' in every row"]),
    ],
)
def test_targets_that_are_questioned(table, gnopt, columns, target, code, words):
    make_table().assign(**columns).to_csv("t.csv", index=False)
    asked = ["--target", target] if target else []
    result = gnopt("train", "t.csv", *asked, "--out", "run")
    assert result.code == code, result.err
    for word in words:
        assert word in result.err
    assert not (table / "run").exists()


def test_whole_numbers_that_may_be_classes(table, gnopt):
    make_table().assign(grade=np.arange(120) % 3 + 1).to_csv("t.csv", index=False)
    result = gnopt("init", "t.csv", "--target", "grade", "--json")
    assert json.loads(result.out)["decisions"]["network.loss"] == "softmax_cross_entropy"
    assert gnopt("init", "t.csv", "--target", "grade", "--out", "o.toml").out.count(
        "if it is an amount, or a count: --set network.loss=squared_error"
    )
    asked = ["--set", "network.loss=squared_error"]
    dry = gnopt("train", "t.csv", "--target", "grade", *asked, "--dry-run")
    assert dry.code == 0, dry.err


def test_many_whole_numbers_are_amounts(table, gnopt):
    rows = 6000
    frame = pd.DataFrame({"a": np.arange(rows) % 97, "price": np.arange(rows)[::-1] * 7 % 5999})
    frame.to_csv("m.csv", index=False)
    result = gnopt("init", "m.csv", "--target", "price", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["decisions"]["network.loss"] == "squared_error"


def test_hdf5_as_others_write_it(table, gnopt):
    with h5py.File("d.h5", "w") as file:
        file["features"] = np.random.default_rng(0).normal(size=(60, 3))
        file["label"] = ["a", "b", "c"] * 20
    result = gnopt("init", "d.h5", "--json", "--out", "d.toml")
    assert result.code == 0, result.err
    decided = json.loads(result.out)["decisions"]
    assert (decided["data.inputs"], decided["data.targets"]) == ("features", "label")
    assert decided["network.loss"] == "softmax_cross_entropy"
    frame = make_table().drop(columns="size")
    kinds = [(n, "S8" if n in ("colour", "kind") else frame[n].dtype) for n in frame]
    rows = [tuple(map(_plain, row)) for row in frame.itertuples(index=False)]
    with h5py.File("r.h5", "w") as file:
        file["table"] = np.array(rows, dtype=kinds)
    result = gnopt("train", "r.h5", "--target", "price", "--out", "rec", *BRIEF)
    assert result.code == 0, result.err
    assert gnopt("predict", "rec", "r.h5", "rec.csv").code == 0
    assert len(pd.read_csv("rec.csv")) == 120


def _plain(value):
    return value.encode() if isinstance(value, str) else value

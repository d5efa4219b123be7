"""`gnopt predict --jacobian` against differences of what `gnopt predict` says of moved rows."""

from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest

from gnopt.training import jacobian

ROWS = 80
STEPS = {"size": 1e-4, "income": 1.0, "gap": 1e-4}


def rows_of_table(seed: int = 0) -> pd.DataFrame:
    """Numbers, one with far values and one with missing cells, words, dates, and two targets."""
    draw = np.random.default_rng(seed)
    made = pd.DataFrame(
        {
            "size": draw.normal(size=ROWS),
            "income": np.exp(draw.normal(10.0, 3.0, ROWS)),
            "gap": draw.normal(size=ROWS),
            "city": draw.choice(["Bonn", "Rom", "Oslo"], ROWS),
            "since": pd.Timestamp("2001-03-01") + pd.to_timedelta(draw.integers(0, 99, ROWS), "D"),
        }
    )
    made["price"] = np.sin(made["size"]) + 0.1 * np.log(made["income"]) + (made["city"] == "Rom")
    made["kind"] = np.where(made["size"] > 0.0, "large", "small")
    made.loc[::7, "gap"] = np.nan
    return made


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows_of_table().to_csv("t.csv", index=False)
    return tmp_path


def train(gnopt, target: str, *more: str) -> None:
    brief = ["--set", "network.hidden=[4]", "--max-updates", 3, "--dtype", "float64"]
    brief += ["--set", "optimizer.weight_decay=1e-3", "--set", "optimizer.method=kfra"]
    drop = ["--set", f"data.drop={({'price', 'kind'} - {target}).pop()}"]
    result = gnopt("train", "t.csv", "--target", target, "--out", "run", *brief, *drop, *more)
    assert result.code == 0, result.err


def predict(gnopt, table: pd.DataFrame, *more: str) -> pd.DataFrame:
    table.to_csv("new.csv", index=False)
    result = gnopt("predict", "run", "new.csv", "out.csv", "--overwrite", *more)
    assert result.code == 0, result.err
    return pd.read_csv("out.csv")


def moved(table: pd.DataFrame, name: str, sign: float) -> pd.DataFrame:
    step = pd.to_timedelta(sign, "h") if name == "since" else sign * STEPS[name]
    return table.assign(**{name: table[name] + step})


def differences(gnopt, table: pd.DataFrame, column: str, *more: str) -> dict[str, np.ndarray]:
    """The derivatives of a column of the output by those of the table, (N,) each."""
    names = [*STEPS, "since"]
    ends = [moved(table, name, sign) for name in names for sign in (1.0, -1.0)]
    made = predict(gnopt, pd.concat(ends), *more)[column].to_numpy().reshape(len(names), 2, ROWS)
    steps = [*STEPS.values(), 1.0 / 24.0]
    return {
        name: (up - down) / (2.0 * step)
        for name, step, (up, down) in zip(names, steps, made, strict=True)
    }


def check(gnopt, of: str, *more: str) -> pd.DataFrame:
    table = rows_of_table(1)
    expected = differences(gnopt, table, of, *more)
    found = predict(gnopt, table, "--jacobian", *more)
    derivatives = [name for name in found if name.startswith("d ")]
    assert derivatives == [f"d {of} / d {name}" for name in expected]
    for name, slopes in expected.items():
        own = found[f"d {of} / d {name}"]
        scale = own.abs().max()
        assert scale > 0.0
        np.testing.assert_allclose(own, slopes, rtol=1e-4, atol=1e-5 * scale)
    assert (found[f"d {of} / d gap"][::7] == 0.0).all()  # a missing cell has no neighbours
    return found


def test_numbers_are_differentiated_by_the_columns_of_a_table(table, gnopt, monkeypatch):
    train(gnopt, "price")
    found = check(gnopt, "prediction")
    monkeypatch.setattr(jacobian, "NUMBERS", 200)  # HDF5 takes a few rows at a time
    assert gnopt("predict", "run", "new.csv", "out.h5", "--jacobian").code == 0
    with h5py.File("out.h5") as file:
        names = list(file["input_names"].asstr())
        assert names == [*STEPS, "since"]
        expected = [found[f"d prediction / d {name}"] for name in names]
        np.testing.assert_allclose(file["jacobian"][:, 0], np.transpose(expected), rtol=1e-12)


def test_probabilities_are_differentiated_by_the_columns_of_a_table(table, gnopt):
    train(gnopt, "kind")
    check(gnopt, "probability small")
    check(gnopt, "x 0", "--layer", "logits")


def test_what_cannot_be_differentiated_is_refused(table, gnopt):
    train(gnopt, "kind", "--set", "data.inputs=city")
    refused = gnopt("predict", "run", "t.csv", "out.csv", "--jacobian")
    assert refused.code == 1
    assert "no column of numbers or dates" in refused.err
    hidden = gnopt("predict", "run", "t.csv", "out.csv", "--jacobian", "--layer", "code")
    assert hidden.code == 2
    assert "output or logits" in hidden.err
    assert not (table / "out.csv").exists()

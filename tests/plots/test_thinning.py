"""Columns of long runs are thinned while they are read, and nothing that a figure shows is lost."""

from __future__ import annotations

import numpy as np
import pytest

from gnopt.plots.thinning import MOST, read_lines
from gnopt.training.csv_table import last_row, read_columns, truncate


def write(path, values, every=1):
    """A steps.csv whose column ``rare`` has a number every so many updates only."""
    rows = [
        f"{k},{value!r},{k if k % every == 0 else ''},{int(k % 3 == 0)}"
        for k, value in enumerate(map(float, values), start=1)
    ]
    path.write_text("\n".join(["step,loss,rare,rejected", *rows, ""]))
    return path


def test_short_runs_keep_every_point(tmp_path):
    values = np.random.default_rng(0).standard_normal(300)
    path = write(tmp_path / "steps.csv", values, every=7)
    found = read_lines(path, ["loss", "rare", "rejected", "absent"], ["rejected"])
    assert np.array_equal(found["loss"].steps, np.arange(1, 301))
    assert np.array_equal(found["loss"].values, values)
    assert np.array_equal(found["rare"].steps, np.arange(7, 301, 7))
    assert np.array_equal(found["rejected"].values, np.cumsum(np.arange(1, 301) % 3 == 0))
    assert found["loss"].varies
    assert not found["loss"].positive
    assert len(found["absent"].steps) == 0


@pytest.mark.parametrize("rows", [2 * MOST + 1, 9 * MOST + 5, 20_011])
def test_long_runs_keep_their_extremes_and_their_ends(tmp_path, rows):
    values = np.ones(rows)
    spikes = np.random.default_rng(1).choice(rows, 20, replace=False)
    values[spikes] = np.arange(20) * 10.0 - 95.0
    path = write(tmp_path / "steps.csv", values)
    found = read_lines(path, ["loss", "rejected"], ["rejected"])
    line = found["loss"]
    assert len(line.steps) <= 4 * MOST + 2
    assert (np.diff(line.steps) >= 0).all()
    assert line.steps[0] == 1
    assert line.steps[-1] == rows
    for at in spikes:  # each is drawn within one group of its place
        near = np.abs(line.steps - (at + 1)) <= 2 * rows / MOST + 2
        assert values[at] in line.values[near]
    assert found["rejected"].values[-1] == rows // 3


def test_the_end_of_a_table_is_found_without_reading_it(tmp_path, monkeypatch):
    """Blocks of 64 bytes: lines and numbers are cut anywhere."""
    path = write(tmp_path / "steps.csv", np.arange(500) / 7.0)
    whole = read_columns(path, ("step", "loss"))
    monkeypatch.setattr("gnopt.training.csv_table._BLOCK", 64)
    assert np.array_equal(read_columns(path, ("step", "loss"))["loss"], whole["loss"])
    content = path.read_bytes()
    path.write_bytes(content + b"501,3")  # cut short
    assert last_row(path)["step"] == "500"
    assert float(last_row(path)["loss"]) == 499 / 7.0
    for step in (500, 499, 321, 1):
        truncate(path, lambda k, step=step: k <= step)
        kept, _, _ = content.partition(b"\n%d," % (step + 1))
        assert path.read_bytes() == kept.rstrip(b"\n") + b"\n"
    assert last_row(tmp_path / "absent.csv") == {}

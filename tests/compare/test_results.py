"""Curves, the choice of the best point, warnings and times to targets, on made-up runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gnopt.compare.choice import evaluate_plan, warnings
from gnopt.compare.execute import parse_part, unfinished
from gnopt.compare.grid import Variant, points
from gnopt.compare.loss_curves import mean_curve, run_curve, smooth, thinned
from gnopt.compare.plan import ComparisonPlan, Run, read_plan
from gnopt.compare.result_files import summary_rows, write_tables
from gnopt.compare.targets import times_to
from gnopt.errors import ConfigError, DataError
from gnopt.training.csv_table import read_columns
from gnopt.workers.cores import Allocation

GRID = {"learning_rate": [0.001, 0.01, 0.1], "decay_share": [1.0, 0.5]}


def a_run(path: Path, losses: list[float], final: float | None, status: str = "done") -> None:
    """A run directory as training leaves it behind, a second per update."""
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"status": status}))
    lines = [f"{k},{k}.0,{loss}" for k, loss in enumerate(losses, 1)]
    (path / "steps.csv").write_text("step,seconds,loss\n" + "\n".join(lines) + "\n")
    evaluations = ["0,10.0,1.0,11.0,2.0"]
    if final is not None:
        evaluations.append(f"{len(losses)},{final},0.5,{final + 1},0.6")
    header = "step,train_loss,train_error,validation_loss,validation_error"
    (path / "eval.csv").write_text("\n".join([header, *evaluations]) + "\n")


@pytest.fixture
def plan(tmp_path: Path) -> ComparisonPlan:
    """A grid of six points for adam, whose objective falls with the rate until it diverges, beside
    kfra.
    """
    variants = [Variant("kfra", "kfra", line="dashed"), Variant("adam", "adam", {}, GRID)]
    runs = [
        Run(f"{v.name}/{point.slug}-seed{seed}", v.name, point.values, seed, {})
        for v in variants
        for point in points(v)
        for seed in (0, 1)
    ]
    plan = ComparisonPlan(
        tmp_path, "[training]\nupdates = 20\n", variants, runs, 1, ".", {"updates": 20}
    )
    for run in runs:
        rate = run.point.get("learning_rate", 0.001)
        share = run.point.get("decay_share", 1.0)
        final = {0.001: 6.0, 0.01: 5.0}.get(rate, 4.0) + (1.0 - share) + 0.1 * run.seed
        if run.variant == "kfra":
            final = 3.0
        if rate == 0.1 and share == 0.5 and run.seed == 1:
            a_run(plan.run_path(run), [10.0, 50.0, float("inf")], None, "diverged")
        else:
            a_run(plan.run_path(run), np.linspace(10.0, final, 20).tolist(), final)
    return plan


def test_the_sliding_mean_is_shorter_in_short_runs():
    values = np.arange(600.0)
    found = smooth(values)
    assert found[0] == 0.0
    assert found[4] == 2.0
    assert found[599] == np.mean(values[590:])
    assert smooth(values[:120])[119] == 118.5  # two of 120
    assert smooth(values[:30]).tolist() == values[:30].tolist()
    assert len(smooth(np.zeros(0))) == 0


def test_an_incomplete_last_line_of_a_table_is_left_out(tmp_path):
    path = tmp_path / "steps.csv"
    assert len(read_columns(path, ("step",))["step"]) == 0
    path.write_text("step,seconds,loss\n1,0.5,3\n2,,2.5\n3,0.9,1")
    found = read_columns(path, ("step", "seconds", "rho"))
    assert found["step"].tolist() == [1, 2]
    assert np.isnan(found["seconds"][1])
    assert np.isnan(found["rho"]).all()
    path.write_text("step,loss\n1,a\n")
    with pytest.raises(DataError, match=r"steps.csv"):
        read_columns(path, ("loss",))


def test_a_curve_belongs_to_the_weights_before_each_update(tmp_path):
    a_run(tmp_path / "r", [8.0, 4.0, float("nan")], None)
    curve = run_curve(tmp_path / "r")
    assert curve.updates.tolist() == [0, 1]
    assert curve.seconds.tolist() == [0, 1]
    assert curve.loss.tolist() == [8.0, 4.0]


def test_mean_curves_end_with_the_shortest(tmp_path):
    a_run(tmp_path / "a", [8.0, 4.0, 3.0], None)
    a_run(tmp_path / "b", [6.0, 4.0], None)
    curve = mean_curve([run_curve(tmp_path / name) for name in "ab"])
    assert curve is not None
    assert curve.loss.tolist() == [7.0, 4.0]
    assert curve.runs == 2
    assert curve.low.tolist() == [6.0, 4.0]
    assert curve.high.tolist() == [8.0, 4.0]
    assert mean_curve([]) is None


def test_thinning_keeps_both_ends(tmp_path):
    a_run(tmp_path / "r", [1.0] * 1000, None)
    kept = thinned(run_curve(tmp_path / "r"))
    assert len(kept) <= 150
    assert kept[0] == 0
    assert kept[1] == 1
    assert kept[-1] == 999


def test_the_best_point_is_the_lowest_one_without_diverged_runs(plan):
    kfra, adam = evaluate_plan(plan)
    assert kfra.default is None
    assert kfra.best.mean("objective") == 3.0
    assert adam.best.point.values == {"learning_rate": 0.1, "decay_share": 1.0}
    assert adam.best.mean("objective") == pytest.approx(4.05)
    assert adam.default is not None
    assert adam.default.mean("objective") == pytest.approx(6.05)
    ranked = [result.point.values for result in adam.ranked()]
    # The objective of this point is low, but one of its runs diverged.
    assert ranked[-1] == {"learning_rate": 0.1, "decay_share": 0.5}
    assert len(adam.few) == 5
    assert all(result.complete for result in adam.few)


def test_warnings_name_diverged_runs_and_the_edge_of_a_grid(plan):
    found = warnings(evaluate_plan(plan))
    assert any("adam: 1 of 14 runs diverged" in text for text in found)
    assert any("highest learning_rate of the grid (0.1)" in text for text in found)
    # A share of 1 never halves the rate, so it is not an edge of the grid.
    assert not any("decay_share" in text for text in found)
    for run in plan.runs:
        if run.point.get("learning_rate") == 0.1:
            (plan.run_path(run) / "eval.csv").write_text(
                "step,train_loss,train_error,validation_loss,validation_error\n0,9,1,,\n"
            )
    assert not any("edge" in text or "highest" in text for text in warnings(evaluate_plan(plan)))


def test_the_summary_has_every_point(plan):
    chosen = evaluate_plan(plan)
    rows = summary_rows(chosen)
    assert [row.role for row in rows[:2]] == ["single", "best"]
    assert sorted({row.role for row in rows}) == ["best", "best 5", "default", "grid", "single"]
    assert sum(row.diverged for row in rows if row.role != "best 5") == 1
    write_tables(plan, chosen, times_to(plan, chosen, []))
    text = (plan.directory / "summary.csv").read_text().splitlines()
    assert len(text) == 1 + 1 + 7 + 1
    curves = read_columns(plan.directory / "curves.csv", ("updates", "loss"))
    assert len(curves["loss"]) == 4 * 20
    assert np.isfinite(curves["loss"]).all()


def test_a_time_to_a_target_counts_the_runs_that_reached_it(plan):
    chosen = evaluate_plan(plan)
    near, far = times_to(plan, chosen, [7.0, 0.1])[:2], times_to(plan, chosen, [7.0, 0.1])[2:]
    assert [r.target for r in near] == [7.0, 7.0]
    assert all(r.runs == r.of for r in near)
    assert near[0].updates < near[1].updates
    assert near[0].seconds == near[0].updates
    assert all(r.runs == 0 and np.isnan(r.updates) for r in far)
    own = times_to(plan, chosen, [])
    assert {r.why for r in own} == {"reached by kfra", "reached by adam"}
    assert all(r.runs == r.of for r in own if r.why == f"reached by {r.variant}")


def test_a_plan_survives_its_file(plan):
    plan.save()
    assert read_plan(plan.directory) == plan
    (plan.directory / "compare.json").write_text("{}")
    with pytest.raises(DataError, match=r"compare.json"):
        read_plan(plan.directory)


def test_parts_cover_the_runs_once(plan):
    for run in plan.runs:
        (plan.run_path(run) / "run.json").write_text('{"status": "interrupted"}')
    parts = [unfinished(plan, parse_part(f"{i}/3")) for i in (1, 2, 3)]
    assert sorted(run.id for part in parts for run in part) == sorted(run.id for run in plan.runs)
    for text in ("0/3", "4/3", "1", "a/b", "1/0"):
        with pytest.raises(ConfigError, match="--part"):
            parse_part(text)


def test_the_allocation_of_cores_is_stated():
    assert Allocation(1, 2, 2).text() == "one run at a time, 2 threads, 2 cores"
    assert "1 of 2 cores each" in Allocation(2, 1, 2).text()
    assert len(Allocation(2, 1, 2).slots()) == 2
    assert "fewer than threads" in Allocation(4, 1, 2).text()
    assert Allocation(4, 1, 2).slots() == [()] * 4

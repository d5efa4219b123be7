"""bin/battery: its problems, how runs are made, kept and judged."""

import csv
import hashlib
import math
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from newcomers import NAMES, added

from battery.pool import Task, perform
from battery.problems import COUNT, RECIPES, Problem, problem
from battery.runs import RATES, Entrant, Limit, Result, entrants, run
from battery.table import Table
from battery.verdicts import Summary, Verdict, verdicts
from gnopt.engine.activations import all_activations
from gnopt.engine.losses import all_losses
from gnopt.errors import ConfigError

ROOT = Path(__file__).parents[2]
TEST_SEED = 2


@cache
def battery(seed: int = 0) -> list[Problem]:
    return [problem(index, seed) for index in range(COUNT)]


def small() -> list[Problem]:
    """The problems of another battery that take next to no time."""
    return [p for p in battery(TEST_SEED) if p.parameters <= 5000 and p.rows <= 1000]


# ---- problems ------------------------------------------------------------------------------------


def environment(*folders: Path) -> dict[str, str]:
    path = [ROOT, ROOT / "bin", *folders]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}


def digest(p: Problem) -> str:
    x, y = p.arrays
    return hashlib.sha256(repr(p).encode() + x.tobytes() + y.tobytes()).hexdigest()


def test_a_problem_depends_on_its_seed_and_number_alone():
    program = (
        "from test_battery import digest, problem; "
        "print(*[digest(problem(index)) for index in (299, 7)])"
    )
    theirs = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment(Path(__file__).parent, ROOT / "tests"),
    )
    assert theirs.stderr == ""
    assert theirs.stdout.split() == [digest(problem(299)), digest(problem(7))]
    assert digest(problem(7, seed=1)) != digest(problem(7))
    assert len({repr(p) for p in battery()}) == COUNT


def test_the_published_problems_are_the_same_for_ever(monkeypatch):
    # Published tables are of these problems. A new activation takes its turns, and so changes them.
    monkeypatch.setattr("battery.problems.all_activations", lambda: list("0123456789"))
    facts = "\n".join(repr(problem(index)) for index in range(COUNT))
    assert hashlib.sha256(facts.encode()).hexdigest()[:16] == "58399f986fceec4c"


def test_all_activations_and_losses_occur_together():
    pairs = {(p.activation, p.loss) for p in battery()}
    losses = set(RECIPES) & set(all_losses())
    assert pairs == {(activation, loss) for activation in all_activations() for loss in losses}


def test_a_new_activation_takes_part():
    with added():
        assert set(NAMES["activations"]) <= {problem(index).activation for index in range(COUNT)}


def test_numbers_stay_within_the_limits_and_reach_them():
    problems = battery()
    assert {len(p.hidden) for p in problems} == set(range(1, 21))
    assert {min(w for p in problems for w in p.hidden)} == {5}
    assert max(w for p in problems for w in p.hidden) in range(280, 301)
    assert all(20 <= p.rows <= 20_000 and 1 <= p.batch <= p.rows for p in problems)
    assert (
        {p.batch == p.rows for p in problems} == {p.batch == 1 for p in problems} == {True, False}
    )
    assert {p.dtype for p in problems} == {"float32", "float64"}
    assert all(2.0 <= p.seconds <= 6.0 for p in problems)
    units = [u for p in problems for u in (p.inputs.units, p.targets.units)]
    scales = [scale for u in units for scale in u.scales]
    assert 1e-6 <= min(scales) < 1e-5
    assert 1e5 < max(scales) <= 1e6


@pytest.mark.parametrize("loss", RECIPES)
def test_arrays_are_what_the_problem_says(loss):
    chosen = [p for p in battery() if p.loss == loss][:12]
    for p in chosen:
        x, y = p.arrays
        assert x.shape == (p.rows, p.inputs.columns)
        assert len(y) == p.rows
        assert np.isfinite(x).all()
        still = (x == x[0]).all(axis=0).sum()
        assert still >= p.inputs.constant
        centred = (x - x.mean(axis=0)) / np.array(p.inputs.units.scales)
        assert np.linalg.matrix_rank(centred, tol=1e-6 * p.rows) <= p.inputs.rank
        constant, floor = p.constant()
        assert math.isfinite(constant)
        assert constant > floor


def test_no_constant_prediction_is_better_than_the_constant():
    p = next(p for p in battery() if p.loss == "squared_error")
    y = p.arrays[1]
    least = 0.5 * ((y - y.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert p.constant()[0] == pytest.approx(least, rel=1e-9)


# ---- runs ----------------------------------------------------------------------------------------


def test_adam_enters_at_every_rate_and_takes_the_settings_that_it_has():
    first, *others = entrants(["adam", "kfra", "adam"])
    assert [e.rate for e in (first, *others[:-1])] == list(RATES)
    sets = ["optimizer.damping_g=1", "network.init=he", "optimizer.beta1=0.5"]
    rate = "optimizer.learning_rate=0.1"
    assert first.sets(sets) == ["optimizer.method=adam", rate, *sets[1:]]
    assert others[-1].sets(sets) == ["optimizer.method=kfra", *sets[:2]]
    with pytest.raises(ConfigError, match="unknown method 'kfar'"):
        entrants(["kfar"])


def test_the_objective_is_that_of_all_rows():
    p = next(p for p in small() if p.batch < p.rows)
    done = run(p, Entrant("sgd"), Limit(0.0, 0))
    assert (done.exit, done.updates, done.message) == (0, 0, "")
    assert done.constant <= done.objective < math.inf


def test_an_error_is_a_result():
    done = run(small()[0], Entrant("kfra"), Limit(0.0, 1), ["training.dtype=float16"])
    assert done.exit == 2
    assert "float16" in done.message
    assert math.isnan(done.objective)
    assert done.gap == math.inf


class Fatal(Task):
    """A run that takes its process with it."""

    def perform(self) -> Result:
        os._exit(9)


def test_a_lost_process_loses_its_own_run_alone():
    index, limit = small()[0].index, Limit(0.0, 1)
    kinds = [Task, Fatal, Task, Task]
    tasks = [
        kind(TEST_SEED, index, Entrant("adam", rate), limit)
        for kind, rate in zip(kinds, RATES, strict=False)
    ]
    results = list(perform(tasks, 2))
    lost = [r.entrant for r in results if r.exit]
    assert lost == [tasks[1].entrant.name]
    assert {r.entrant for r in results} == {t.entrant.name for t in tasks}


# ---- verdicts ------------------------------------------------------------------------------------


def ended(objective: float, entrant: str = "kfra", code: int = 0, index: int = 0) -> Result:
    return Result(index, entrant, 2.0, 2.0, 9, code, objective, 2.0, 1.0, "", "")


@pytest.mark.parametrize(
    ("objective", "code", "adam", "word", "strictly"),
    [
        (1.1, 0, 1.2, "below", True),
        (1.21, 0, 1.2, "within 10%", False),
        (1.4, 0, 1.2, "above", False),
        (1.7, 0, 1.2, "above 3x", False),
        (1.0000008, 0, 1.0000004, "equal", False),  # both are solved
        (1.5000004, 0, 1.5, "equal", False),  # float32 tells no difference
        (1.0, 3, 1.2, "diverged", False),
        (1.0, 1, 1.2, "error", False),
        (math.nan, 0, 1.2, "not finite", False),
    ],
)
def test_words(objective, code, adam, word, strictly):
    verdict = Verdict(ended(objective, code=code), ended(adam, "adam 0.1"), "float32")
    assert (verdict.word, verdict.strictly) == (word, strictly)


def test_the_best_adam_counts_and_a_diverged_one_never_does(tmp_path):
    table = Table(tmp_path)
    for result in [
        ended(1.0, "adam 0.1", code=3),
        ended(1.3, "adam 0.01"),
        ended(1.2, "adam 0.001"),
        ended(1.3, "kfra"),
        ended(1.1, "kfra", index=1),  # without Adam: not judged
    ]:
        table.add(result)
    (verdict,) = verdicts(table, "kfra", {0: "float32", 1: "float32"})
    assert verdict.adam.entrant == "adam 0.001"
    assert verdict.ratio == pytest.approx(1.5)
    assert Summary.of([verdict]).below == 0


def test_a_table_reads_what_it_wrote_and_forgets(tmp_path):
    table = Table(tmp_path)
    rows = [ended(math.nan, code=3), replace(ended(1.5, "adam 0.1"), notes='a, "b"\nc')]
    for row in rows:
        table.add(row)
    again = Table(tmp_path).results
    assert repr(list(again.values())) == repr(rows)
    table.forget([(0, "kfra")])
    assert list(Table(tmp_path).results) == [(0, "adam 0.1")]


# ---- the command ---------------------------------------------------------------------------------


def command(*argv: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "battery", *map(str, argv)],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == code, done.stderr
    return done


def test_the_command_goes_on_where_it_was_stopped(tmp_path):
    index = small()[0].index
    common = ("--out", tmp_path / "a", "--seed", TEST_SEED, "--seconds-factor", 0.005)
    command(*common, "--problems", index, "--methods", "adam", "--jobs", 2)
    first = (tmp_path / "a" / "runs.csv").read_text()
    done = command(*common, "--problems", index, "--methods", "kfra,adam", "--jobs", 1)
    assert (tmp_path / "a" / "runs.csv").read_text().startswith(first)
    assert "1/1 " in done.stderr
    assert "at or below the best Adam" in done.stdout
    with (tmp_path / "a" / "runs.csv").open() as file:
        assert [row["entrant"] for row in csv.DictReader(file)][-1] == "kfra"
    assert (tmp_path / "a" / "report.txt").read_text().startswith(done.stdout.rstrip())

    done = command(*common, "--problems", index, "--methods", "kfra", "--again", "kfra")
    assert "1/1 " in done.stderr
    text = command("--compare", tmp_path / "a", tmp_path / "a").stdout
    assert "kfra before" in text
    other = command(*common[:2], "--seed", 3, code=2)
    assert "choose another --out" in other.stderr


def test_a_problem_is_shown():
    p = small()[0]
    text = command("--show", p.index, "--seed", TEST_SEED).stdout
    assert p.loss in text
    assert p.activation in text
    assert f"{p.parameters:,} parameters" in text

"""What a training shows: the table of evaluations, what is left, and the closing lines."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from gnopt.cli import display
from gnopt.cli.course import Course
from gnopt.cli.display import LiveReporter
from gnopt.cli.evaluation_table import WIDTH
from gnopt.config import load
from gnopt.training import start
from gnopt.training.loop import Reporter, run_to_end


class Screen(LiveReporter):
    """Keeps what the terminal would show after each update, and what is printed above it."""

    def __init__(self):
        super().__init__()
        self.console = Console(file=io.StringIO(), width=80, highlight=False)
        self.frames = []

    def update(self, counters, row):
        super().update(counters, row)
        with self.console.capture() as frame:
            self.console.print(self.view())
        self.frames.append(frame.get().splitlines())


def train(reporter, *sets, name="run"):
    config = load(Path("tiny.toml"), ["training.evaluate_share=0", *sets])
    trainer = start.begin(config, None, None, False, reporter, ["gnopt"], lambda experiment: None)
    try:
        return trainer, run_to_end(trainer)
    finally:
        trainer.experiment.data.close()


def test_a_terminal_shows_a_table_and_below_it_what_happens_now(tiny):
    screen = Screen()
    train(screen, "training.metrics=['rmse', 'mae', 'r2']", "training.judge=r2")
    for frame in screen.frames:
        assert max(map(len, frame)) <= 80
        assert len(frame) <= 23  # a small terminal
        assert sum("update" in line and "time" in line for line in frame) == 1
        assert re.search("[^\x00-\x7f━╸╺–]", "\n".join(frame)) is None  # no Greek
    last = screen.frames[-1]
    heading = next(line for line in last if line.lstrip().startswith("update  "))
    assert heading.split()[:5] == [
        "update",
        "time",
        "loss",
        "loss",
        "r2",
    ]  # what judges comes first
    assert any(line.startswith("update 12 ") for line in last)
    assert any(re.fullmatch(r"batch loss \S+, damping \S+, step size \S+ *", line) for line in last)
    assert any("best so far: validation r2" in line for line in last)
    assert sum(line.rstrip().endswith(" best") for line in last) == 1
    assert len(screen.frames) == 12
    screen.end()
    assert "batch loss" not in screen.console.render_str(str(screen.view().renderables)).plain


def test_the_best_evaluation_stays_in_sight(tiny):
    screen = Screen()
    sets = ["optimizer.method=sgd", "optimizer.learning_rate=1e-9", "training.judge=objective"]
    train(screen, *sets, "training.updates=40", "data.validation=0", "training.aim=objective")
    screen._course.best_step = 1  # as if all that followed had been worse
    with screen.console.capture() as frame:
        screen.console.print(screen.view())
    lines = frame.get().splitlines()
    rows = [line for line in lines if line.lstrip()[:1].isdecimal()]
    assert len(rows) == 8
    assert rows[0].split()[0] == "1"
    assert rows[0].rstrip().endswith(" best")
    assert rows[-1].split()[0] == "40"


def test_a_log_has_the_heading_once_and_a_line_for_each_evaluation(tiny, gnopt, monkeypatch):
    """No line has the loss of a batch beside that of an evaluation."""
    monkeypatch.setattr(display.time, "monotonic", iter(range(0, 10**6, 1000)).__next__)
    result = gnopt("train", "tiny.toml", "--out", "run", "--set", "training.evaluate_share=0")
    assert result.code == 0, result.err
    lines = result.err.splitlines()
    (heading,) = (i for i, line in enumerate(lines) if line.lstrip().startswith("update  "))
    assert lines[heading].split()[-5:] == ["loss", "loss", "error", "at", "left"]
    assert all(len(line) <= WIDTH for line in lines[heading:])
    evaluated = [line.split() for line in lines[heading + 1 :] if line.lstrip()[:1].isdecimal()]
    steps = [int(row.split(",")[0]) for row in Path("run/eval.csv").read_text().splitlines()[1:]]
    assert [int(cells[0]) for cells in evaluated] == steps
    sentences = [line for line in lines if "batch loss" in line]
    assert len(sentences) == 12
    assert all(re.match(r"update \d+: batch loss", line) for line in sentences)


def test_the_closing_lines_name_the_best_network_and_commands_that_work(tiny, gnopt):
    result = gnopt("train", "tiny.toml", "--out", "a run", "-q")
    lines = result.out.splitlines()
    (at,) = (i for i, line in enumerate(lines) if line.startswith("next:"))
    assert lines[at - 2].startswith("best network: update ")
    assert lines[at - 1].startswith("stored in     a run/checkpoints/step-")
    commands = [shlex.split(line.removeprefix("next:")) for line in lines[at:]]
    assert [words[:2] for words in commands] == [
        ["gnopt", name] for name in ("evaluate", "predict", "plot")
    ]
    for _, *argv in commands:
        done = gnopt(*argv)
        assert done.code == 0, done.err
    assert (tiny / "predictions.h5").is_file()
    assert (tiny / "a run/curves.png").is_file()


@pytest.mark.parametrize(
    ("sets", "seconds", "expected"),
    [
        ((), (0.0, 5.0), (5.0, 5.0)),  # ten updates left, half a second each
        (("training.max_seconds=8",), (0.0, 5.0), (3.0, 3.0)),
        (("training.updates=1000", "training.max_seconds=400"), (0.0, 5.0), (5.0, 395.0)),
    ],
)
def test_what_is_left_follows_from_pace_budget_and_patience(tiny, sets, seconds, expected):
    trainer, _ = train(Reporter(), "training.updates=0")
    config = load(Path("tiny.toml"), ["training.updates=20", *sets])
    trainer.experiment.config = config
    counters, ends = trainer.counters, trainer.ends
    course = Course(trainer.experiment, trainer.run, counters, ends)
    assert course.left(counters) == (
        None
        if not config.training.max_seconds
        else pytest.approx((config.training.max_seconds, config.training.max_seconds))
    )
    counters.step, (_, counters.seconds) = 10, seconds
    counters.wall += counters.seconds
    course.update(counters)
    if config.training.updates == 1000:  # patience ends the run at 2 · 0 + 20 updates
        ends.patience.observe(0, (1.0, 1.0), True)
    assert course.left(counters) == pytest.approx(expected)

"""The look of figures: axes with plain numbers, names for lines, colours that go by method."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from gnopt.compare.choice import PointResult, VariantResult
from gnopt.compare.grid import GridPoint, Variant
from gnopt.compare.loss_curves import Curve
from gnopt.compare.outcome import RunOutcome
from gnopt.compare.plan import Run
from gnopt.errors import ConfigError, DataError
from gnopt.optimizers import methods
from gnopt.plots.comparison import Panel, _shades, draw_comparison
from gnopt.plots.figure import (
    colours_of,
    drawn,
    legend,
    lighter,
    log_axis,
    new_figure,
    plain,
    save,
    save_all,
    style,
)
from gnopt.plots.heatmap import draw_heatmap


def a_result(variant: Variant, values: dict, objective: float, status: str = "done") -> PointResult:
    return PointResult(
        variant,
        GridPoint(values),
        [Run("r", variant.name, values, 0, {})],
        [RunOutcome(status, 10, 1.0, 9.0, objective)],
    )


def a_curve(length: int = 50, runs: int = 2) -> Curve:
    loss = 100.0 / np.arange(1.0, length + 1)
    return Curve(np.arange(length), 0.1 * np.arange(length), loss, 0.9 * loss, 1.1 * loss, runs)


@pytest.mark.parametrize(
    ("low", "high"), [(50, 60), (60, 200), (1, 50), (0.1, 900), (1e-6, 1e6), (100, 101)]
)
def test_logarithmic_axes_have_plain_numbers(low, high):
    with style():
        figure = new_figure(5, 3)
        axis = figure.subplots()
        axis.plot([low, high], [low, high])
        log_axis(axis.yaxis)
        figure.canvas.draw()
        labels = [label.get_text() for label in axis.get_yticklabels() if label.get_text()]
        inside = [text for text in labels if low * 0.8 <= float(text) <= high * 1.25]
    assert 3 <= len(inside) <= 14
    assert not any("$" in text for text in labels)


def test_a_method_has_the_same_colour_in_every_figure():
    table = methods()
    own = [method.colour for method in table.values() if method.colour]
    assert len(set(own)) == len(own)
    assert all(re.fullmatch("#[0-9A-F]{6}", shade) for shade in own)
    for names in (["adam", "kfra"], ["exact", "kfra", "gradient", "lion"], table):
        shades = colours_of(names)
        assert shades["kfra"] == table["kfra"].colour
        assert len(set(shades.values())) == len(names)


def test_lines_of_one_method_get_lighter():
    shades = [lighter("#0072B2", place, 3) for place in range(3)]
    assert shades[0] == "#0072B2"
    assert shades == sorted(shades)
    assert len(set(shades)) == 3


def test_variants_of_one_method_share_its_colour_where_lines_differ():
    variants = [
        Variant("a", "kfra"),
        Variant("b", "kfra", line="dashed"),
        Variant("c", "kfra"),
        Variant("d", "adam"),
    ]
    curves = [
        (VariantResult(v, [], a_result(v, {}, 1.0)), "single", a_curve(), False) for v in variants
    ]
    shades = _shades([Panel("", curves)])
    assert shades["a", "kfra"] == shades["b", "kfra"] == methods()["kfra"].colour
    assert len({shades[v.name, v.method] for v in variants}) == 3


def test_the_suffix_names_the_format_and_files_are_reproducible(tmp_path):
    with style():
        figure = new_figure(2, 2)
    assert [path.name for path in save_all(figure, tmp_path / "new/a")] == ["a.png", "a.svg"]
    first = (tmp_path / "new/a.svg").read_bytes()
    save(figure, tmp_path / "new/a.svg")
    assert (tmp_path / "new/a.svg").read_bytes() == first  # no dates, no random names
    with pytest.raises(ConfigError, match="gif"):
        save_all(figure, tmp_path / "a.gif")
    assert not list(tmp_path.rglob(".tmp*"))


def test_all_roles_are_drawn_and_named(tmp_path):
    adam = Variant("adam", "adam", grid={"learning_rate": [0.1, 0.2]})
    results = [a_result(adam, {}, 5.0), a_result(adam, {"learning_rate": 0.1}, 4.0)]
    one = VariantResult(adam, results, results[1], [results[1]] * 5, results[0])
    kfra = Variant("kfra", "kfra", line="dashed")
    two = VariantResult(kfra, [], a_result(kfra, {}, 1.0))
    curves = [
        (one, "best", a_curve(), False),
        (one, "best 5", a_curve(), False),
        (one, "default", a_curve(9), True),
        (two, "single", a_curve(400), False),
    ]
    (path,) = draw_comparison([Panel("", curves)], tmp_path / "f.svg")
    text = path.read_text()
    for words in (
        "adam, best of 1",
        "adam, mean of the best 5",
        "adam, default settings",
        "kfra",
        "training objective per example",
        "updates",
        "seconds of training",
    ):
        assert words in text
    (path,) = draw_comparison([Panel("CURVES", curves), Panel("MNIST", [])], tmp_path / "g.svg")
    assert "CURVES" in path.read_text()
    assert "MNIST" in path.read_text()


def test_heat_maps_of_one_two_and_three_axes(tmp_path):
    for grid in (
        {"learning_rate": [0.1, 0.2]},
        {"learning_rate": [0.5, 2.0**-7], "decay_share": [1.0, 0.5]},
        {"learning_rate": [0.1, 0.2], "decay_share": [1.0, 0.5], "beta1": [0.8, 0.9]},
    ):
        adam = Variant("adam", "adam", grid=grid)
        values = [{}]
        for name, choices in grid.items():
            values = [{**value, name: choice} for value in values for choice in choices]
        results = [a_result(adam, value, 5.0 - i) for i, value in enumerate(values[:-1])]
        results.append(a_result(adam, values[-1], float("nan"), "diverged"))
        default = a_result(adam, {}, 9.0)
        (path,) = draw_heatmap(
            [VariantResult(adam, [default, *results], results[0], [], default)], tmp_path / "h.svg"
        )
        text = path.read_text()
        assert "adam: objective" in text
        assert "diverged" in text or len(grid) == 3
    assert draw_heatmap([], tmp_path / "none") == []


@pytest.mark.parametrize("name", ["$b^$", "a$_{", "x_{$ \\frac", "_hidden", "a\\$b$", "\x01\udcff"])
def test_names_are_drawn_as_they_are(tmp_path, name):
    with style():
        figure = new_figure(4.0, 3.0)
        axes = figure.subplots()
        (line,) = axes.plot([1, 2], label=name)
        axes.set_title(plain(name))
        legend(figure, [line], [name])
        (path,) = save_all(figure, tmp_path / "f.svg")
    text = html.unescape(path.read_text())
    shown = name.replace("\x01", "\ufffd").replace("\udcff", "\ufffd")
    assert text.count(shown) == 2


def test_a_figure_that_fails_costs_this_figure_alone(tmp_path, caplog):
    def fail(path: Path) -> list[Path]:
        raise ValueError("no such glyph\nwith a second line")

    def refuse(path: Path) -> list[Path]:
        raise DataError("no updates to draw")

    assert drawn("steps.png", fail, tmp_path) == []
    assert "no steps.png: ValueError: no such glyph" in caplog.text
    with pytest.raises(DataError):
        drawn("steps.png", refuse, tmp_path)

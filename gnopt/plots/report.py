"""Write the report of a comparison: an HTML page with figures, tables and settings."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from gnopt.compare import facts, result_files
from gnopt.compare.choice import VariantResult
from gnopt.compare.plan import ComparisonPlan
from gnopt.compare.result_texts import HEADER, summary_cells, target_rows
from gnopt.compare.targets import TimeToTarget
from gnopt.files import write_text
from gnopt.plots.comparison import OBJECTIVE, VALIDATION, Panel, Quantity, draw_comparison
from gnopt.plots.figure import drawn
from gnopt.plots.heatmap import draw_heatmap

_CSS = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; font-size: 0.85rem; }
td, th { padding: 0.2rem 0.7rem; text-align: right; }
td:first-child, th:first-child, .left td:nth-child(2), .left th:nth-child(2) { text-align: left; }
tr { border-bottom: 1px solid #ddd; } th { border-bottom: 2px solid #888; }
.wide { overflow-x: auto; } .warning { color: #a04000; }
img { max-width: 100%; height: auto; background: #fff; }
pre { background: #f5f5f5; padding: 0.8rem; overflow-x: auto; font-size: 0.8rem; }
"""


def write_report(
    plan: ComparisonPlan,
    chosen: Sequence[VariantResult],
    times: Sequence[TimeToTarget],
    notes: Sequence[str],
    warnings: Sequence[str],
) -> list[Path]:
    """Draw objective, validation (where there are validation rows) and grid as .png and .svg, write
    report.html, and return all files.

    Raises GnoptError without matplotlib.
    """
    folder = plan.directory
    figures = {
        "Training objective": drawn("figure of training", _curves, plan, chosen, OBJECTIVE),
        "Validation loss": drawn("figure of validation", _curves, plan, chosen, VALIDATION),
        "Grids": drawn("figure of the grids", draw_heatmap, chosen, folder / "grid"),
    }
    rows = result_files.summary_rows(chosen)
    calls = facts.history(plan)
    commands = dict.fromkeys(shlex.join(call["argv"]) for call in calls)
    versions = (
        "\n".join(f"{name} {value}" for name, value in calls[-1]["versions"].items())
        if calls
        else ""
    )
    parts = [
        _list(notes),
        _list([f"warning: {text}" for text in warnings], "warning"),
        *(
            f"<h2>{title}</h2>{_picture(paths[-1], title)}"
            for title, paths in figures.items()
            if paths
        ),
        "<p>Lines of the training objective are sliding means of the batches' loss (of ten "
        "batches, but at most 2% of a run); the validation loss is that of the evaluations. Lines "
        "are averaged over seeds, and bands reach from the lowest to the highest seed. The "
        "numbers in the tables are evaluated at the end of each run, on training and on "
        "validation rows; the lowest validation loss is that of all evaluations.</p>",
        "<h2>Results</h2>",
        _table(HEADER, [summary_cells(row) for row in rows if row.role != "grid"], "left"),
        "<h2>Updates and seconds to a target</h2>",
        _table(*target_rows(times)) if times else "",
        "<h2>Settings</h2><p>The problem, for all runs:</p>",
        _block(plan.problem),
        "<p>The methods:</p>",
        _table(["name", "method", "settings", "grid"], _settings(plan), "left"),
        "<h2>Every point</h2>",
        _table(HEADER, [summary_cells(row) for row in rows], "left"),
        "<h2>Made by</h2>",
        _block("\n".join(commands)),
        _block(versions),
    ]
    title = f"Comparison {folder.resolve().name}"
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_CSS}</style></head><body>'
        f"<h1>{escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )
    write_text(folder / "report.html", page)
    return [*(path for paths in figures.values() for path in paths), folder / "report.html"]


def _curves(
    plan: ComparisonPlan, chosen: Sequence[VariantResult], quantity: Quantity
) -> list[Path]:
    """Draw a quantity and return the files; none where no run has it."""
    curves = result_files.shown_curves(plan, chosen, quantity.read)
    if not curves and quantity is not OBJECTIVE:
        return []
    return draw_comparison([Panel("", curves)], plan.directory / quantity.name, quantity)


def _settings(plan: ComparisonPlan) -> list[list[str]]:
    def words(settings: dict[str, object]) -> str:
        return ", ".join(f"{name} = {value}" for name, value in settings.items())

    return [
        [v.name, v.method, words(v.settings) or "defaults", words(dict(v.grid)) or "–"]
        for v in plan.variants
    ]


def _picture(path: Path, title: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<p><img alt="{escape(title)}" src="data:image/svg+xml;base64,{data}"></p>'


def _table(header: Iterable[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    def line(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f'<div class="wide"><table class="{kind}">{line(header, "th")}{body}</table></div>'


def _list(lines: Sequence[str], kind: str = "") -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="{kind}">{items}</ul>' if lines else ""


def _block(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"

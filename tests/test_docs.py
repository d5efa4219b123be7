"""The pages keep what they promise: their code runs, their links lead to files, their lists are
whole.
"""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from docs_tools import ROOT, Session, blocks, problems
from newcomers import PACKAGES

from gnopt import __version__
from gnopt.cli import main
from gnopt.registry import discover

PAGES = sorted(
    path.relative_to(ROOT)
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "datasets" / "README.md",
        *(ROOT / "docs").glob("*.md"),
    ]
)
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


ARCHITECTURE = "docs/architecture.md"


def names(page: Path) -> str:
    return str(page)


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_block_runs_or_says_why_not(page):
    found = blocks(page, (ROOT / page).read_text())
    assert [problem for block in found for problem in problems(block)] == []


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, (ROOT / p).read_text())], ids=names)
def test_the_blocks_of_a_page_run(page, tmp_path):
    session = Session.start(tmp_path)
    for block in blocks(page, (ROOT / page).read_text()):
        session.run(block)


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_lead_to_files(page):
    folder = (ROOT / page).parent
    targets = [path for path, _ in LINK.findall((ROOT / page).read_text()) if ":" not in path]
    assert [path for path in targets if not (folder / path).exists()] == []


def test_the_index_lists_every_page():
    listed = {path for path, _ in LINK.findall((ROOT / "docs" / "index.md").read_text())}
    assert listed >= {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}


def test_the_records_of_the_architecture_stand_where_it_says():
    rows = re.findall(r"^\| `(\w+)` \| `([\w/]+\.py)` \|", (ROOT / ARCHITECTURE).read_text(), re.M)
    assert len(rows) > 10
    missing = [
        (name, path) for name, path in rows if f"\nclass {name}" not in (ROOT / path).read_text()
    ]
    assert missing == []


def test_the_architecture_names_every_package():
    page = (ROOT / ARCHITECTURE).read_text()
    packages = [path.parent.name for path in (ROOT / "gnopt").glob("*/__init__.py")]
    assert [name for name in packages if f"**`{name}`" not in page] == []


@pytest.fixture
def page_of_options(monkeypatch):
    """The page, with siblings that it does not name hidden: one more of them is one file."""
    text, listed = (ROOT / "docs" / "configuration.md").read_text(), pkgutil.iter_modules
    files = [m.name for package in PACKAGES.values() for m in listed(package.__path__)]
    hidden = {name for name in files if not re.search(rf"\b{name}\b", text)}
    with monkeypatch.context() as patch:
        patch.setattr(
            pkgutil, "iter_modules", lambda path: (m for m in listed(path) if m.name not in hidden)
        )
        discover.cache_clear()
        yield text
    discover.cache_clear()


def test_the_page_of_options_is_in_step(page_of_options, capsys):
    with pytest.raises(SystemExit):
        main(["config", "keys", "--markdown"])
    hint = "write it again: gnopt config keys --markdown > docs/configuration.md"
    assert capsys.readouterr().out == page_of_options, hint


def test_the_citation_names_this_version():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


WITH_EXAMPLES = sorted(
    path.relative_to(ROOT) for path in (ROOT / "gnopt").rglob("*.py") if ">>> " in path.read_text()
)


@pytest.mark.parametrize("module", WITH_EXAMPLES, ids=names)
def test_examples_in_docstrings_run(module):
    parts = [part for part in module.with_suffix("").parts if part != "__init__"]
    done = doctest.testmod(importlib.import_module(".".join(parts)))
    assert done.attempted
    assert not done.failed  # doctest has printed what it got and what it expected


# ---- the tools themselves ------------------------------------------------------------------------


def page(language: str, text: str, *comments: str) -> list:
    lines = [*(f"<!-- {comment} -->" for comment in comments), f"```{language}", text, "```", ""]
    return blocks(Path("page.md"), "\n".join(["Words.", "", *lines]))


@pytest.mark.parametrize(
    ("language", "comments", "message"),
    [
        ("", (), "page.md:3: language ''"),
        ("bash", (), "language 'bash', expected one of sh, python"),
        ("sh", ("not run:",), "page.md:4: the mark 'not run' says nothing"),
        ("sh", ("with:",), "unknown mark 'with'"),
        ("sh", ("skip: slow",), "unknown mark 'skip', expected not run"),
    ],
)
def test_a_block_out_of_order_is_named(language, comments, message):
    (block,) = page(language, "true", *comments)
    (problem,) = problems(block)
    assert message in problem


@pytest.mark.parametrize(
    ("language", "text"),
    [("sh", "false\ntrue"), ("python", "assert False"), ("toml", "[network]\nwidth = 3")],
)
def test_a_block_that_fails_fails_the_test(language, text, tmp_path):
    session = Session.start(tmp_path)
    (block,) = page(language, text)
    with pytest.raises(AssertionError, match=r"page\.md:3: exit code"):
        session.run(block)
    (marked,) = page(language, text, "not run: it fails")
    session.run(marked)


def test_marks_write_files_run_commands_and_append_options(tmp_path):
    session = Session.start(tmp_path)
    (block,) = page("python", "VALUE = 3", "file: folder/mine.py")
    session.run(block)
    assert (tmp_path / "folder" / "mine.py").read_text() == "VALUE = 3\n"
    (block,) = page("sh", "cat begun >found", "first: echo yes >begun")
    session.run(block)
    assert (tmp_path / "found").read_text() == "yes\n"
    (block,) = page("sh", "gnopt list >plain", "with config keys: --json", "with list: --json")
    session.run(block)
    assert (tmp_path / "plain").read_text().startswith("{")

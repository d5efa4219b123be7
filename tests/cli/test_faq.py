"""docs/faq.md: each command of the page gives the answer that stands below it."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

from docs_tools import ROOT, blocks

PAGE = Path("docs/faq.md")
TRAINS = ["train", "regression.toml"]  # spared the search for a weight decay


def pattern(line: str) -> str:
    """A regular expression of a line, in which ``...`` stands for any text."""
    return ".*".join(re.escape(part) for part in line.split("..."))


def test_commands_are_answered_as_the_page_says(tmp_path, monkeypatch, gnopt):
    monkeypatch.chdir(tmp_path)
    said, wrong, answered = "", [], 0
    for block in blocks(PAGE, (ROOT / PAGE).read_text()):
        if block.language == "sh":
            said = ""
            if block.marks["not run"] == "times are measured":
                continue
            if "--device cuda" in block.text and importlib.util.find_spec("cupy"):
                continue
            for line in block.text.splitlines():
                program, *argv = shlex.split(line)
                assert program == "gnopt"
                quick = ["--set", "optimizer.weight_decay=0"] if argv[:2] == TRAINS else []
                result = gnopt(*argv, *quick)
                said += result.out + result.err
        elif said:
            answered += 1
            wrong += [
                f"{block.place}: {line}\n{said}"
                for line in block.text.splitlines()
                if re.search(pattern(line), said) is None
            ]
    assert wrong == []
    assert answered > 12

"""Blocks of code in Markdown pages: finding them, and running them in a copy of the checkout.

A comment right before a block says what the block alone does not; CONTRIBUTING.md lists these
marks. The blocks of a page run in their order in one folder, so that later ones find what earlier
ones wrote. A block of `text` or `mermaid` is no code.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import h5py

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "sh": "bash -euxo pipefail",
    "python": "python",
    "toml": "gnopt config check --allow-plugins",
}
SHOWN = ("text", "mermaid")
MARK = re.compile(r"not run|needs|with \S.*|file|first")
ROWS = 300  # of the digits, in a copy of the checkout

FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
COMMENTS = re.compile(r"(?:<!--(?:(?!-->).)*-->\s*)*\Z", re.DOTALL)
COMMENT = re.compile(r"<!--\s*(.*?)\s*-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language and text, and its marks by name."""

    page: Path
    line: int
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path, text: str) -> list[Block]:
    """Every fenced block of a page, with the comments right before it."""
    found = []
    for match in FENCE.finditer(text):
        before = COMMENTS.search(text[: match.start()])
        marks = {}
        for comment in COMMENT.findall(before.group() if before else ""):
            name, _, value = comment.partition(":")
            marks[name.strip()] = value.strip()
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match.group(1), match.group(2), marks))
    return found


def problems(block: Block) -> list[str]:
    """Why a block neither runs nor says why it does not; empty for a block that is in order."""
    found = []
    known = [*COMMANDS, *SHOWN]
    if block.language not in known:
        found.append(
            f"{block.place}: language {block.language!r}, expected one of {', '.join(known)}"
        )
    for name, value in block.marks.items():
        if not MARK.fullmatch(name):
            expected = "not run, needs, with COMMAND, file or first"
            found.append(f"{block.place}: unknown mark '{name}', expected {expected}")
        elif not value:
            found.append(f"{block.place}: the mark '{name}' says nothing")
    return found


@dataclass
class Session:
    """A copy of the checkout in which the blocks of one page run."""

    folder: Path

    @classmethod
    def start(cls, folder: Path) -> Session:
        """Copy what a reader of the pages has, with a few rows of the digits in place of all."""
        for name in ("gnopt", "configs", "datasets", "tests"):
            skip = shutil.ignore_patterns("*.h5")
            shutil.copytree(ROOT / name, folder / name, ignore=skip)
        for name in ("setup.cfg", "datasets/faces-lfw100.h5"):
            shutil.copy2(ROOT / name, folder / name)
        with (
            h5py.File(ROOT / "datasets" / "mnist10k.h5") as full,
            h5py.File(folder / "datasets" / "mnist10k.h5", "w") as few,
        ):
            for name, data in full.items():
                few[name] = data[:ROWS]
                few[name].attrs.update(data.attrs)
        (folder / ".bin").mkdir()
        session = cls(folder)
        session._script("python", f'exec {shlex.quote(sys.executable)} "$@"')
        return session

    def run(self, block: Block) -> None:
        """Run a block; AssertionError with its place and output where it fails."""
        missing = "needs" in block.marks and shutil.which(block.marks["needs"]) is None
        if "not run" in block.marks or missing or block.language in SHOWN:
            return
        self._gnopt(block)
        if "first" in block.marks:
            self._shell(block, block.marks["first"])
        path = self.folder / block.marks.get("file", f".block.{block.language}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        self._shell(block, f"{COMMANDS[block.language]} {shlex.quote(str(path))}")

    def _shell(self, block: Block, commands: str) -> None:
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", commands],
            cwd=self.folder,
            env={
                **os.environ,
                "PATH": f"{self.folder / '.bin'}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(self.folder),
                "OMP_NUM_THREADS": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{block.place}: exit code {done.returncode}\n{done.stdout}"

    def _gnopt(self, block: Block) -> None:
        """Write the command `gnopt`, which appends what the block's marks have for its first words.

        Of several marks that fit, the first counts.
        """
        cases = [
            f'{shlex.quote(name.removeprefix("with "))}" "*) exec python -m gnopt "$@" {options} ;;'
            for name, options in block.marks.items()
            if name.startswith("with ")
        ]
        body = "\n".join(['case "$* " in', *cases, "esac", 'exec python -m gnopt "$@"'])
        self._script("gnopt", body)

    def _script(self, name: str, body: str) -> None:
        path = self.folder / ".bin" / name
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)

"""`gnopt example`: configurations that are ready to run, with small data, from an installed gnopt
too.
"""

from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path

import pytest

from gnopt.examples import all_examples

EXAMPLES = all_examples()
CONFIGS = Path(__file__).parents[2] / "configs"
SHORT = {
    "train": ["--set", "training.updates=3", "--set", "optimizer.weight_decay=0", "-q"],
    "inspect-curvature": ["--samples", "5", "--layers", "1", "-q"],
}


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_command_of_an_example_runs(name, gnopt):
    written = gnopt("example", name, "--json")
    assert written.code == 0, written.err
    facts = json.loads(written.out)
    for command in facts["commands"]:
        program, *argv = shlex.split(command)
        assert program == "gnopt"
        done = gnopt(*argv, *SHORT.get(argv[0], []))
        assert done.code == 0, done.err


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_small_and_the_same_every_time(name, gnopt):
    folders = [Path("one"), Path("deep/er")]
    for folder in folders:
        assert gnopt("example", name, "--out", folder).code == 0
    one, other = (sorted(folder.iterdir()) for folder in folders)
    assert [path.name for path in one] == sorted([f"{name}.toml", EXAMPLES[name].data])
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    assert sum(path.stat().st_size for path in one) < 1e6
    refused = gnopt("example", name, "--out", "one")
    assert refused.code == 2
    assert "--overwrite" in refused.err


def test_an_example_is_replaced_where_this_is_asked_for(gnopt):
    assert gnopt("example", "counts").code == 0
    Path("counts.toml").write_text("mine")
    assert gnopt("example", "counts", "--overwrite").code == 0
    assert Path("counts.toml").read_text() == EXAMPLES["counts"].config


def test_without_a_name_the_examples_are_listed(gnopt):
    lines = gnopt("example").out.splitlines()
    assert [line.split()[0] for line in lines[: len(EXAMPLES)]] == list(EXAMPLES)
    assert all(len(line) <= 80 for line in lines)
    assert "(gnopt calls it 'classification')" in gnopt("example", "Penguins").err
    assert "did you mean 'regression'" in gnopt("example", "regresion").err


@pytest.mark.parametrize("name", ["regression", "classification", "counts"])
def test_the_configurations_beside_the_papers_are_those_of_the_examples(name):
    shipped, own = (
        tomllib.loads(text)
        for text in ((CONFIGS / f"{name}.toml").read_text(), EXAMPLES[name].config)
    )
    assert Path(shipped["data"].pop("file")).name == own["data"].pop("file")
    assert shipped == own

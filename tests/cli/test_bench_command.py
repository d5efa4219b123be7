"""``gnopt bench``: tables, CSV, JSON and errors; no times are asserted."""

import csv
import json

import pytest
from cli_tools import ROOT

PHASES = {"passes", "statistics", "inverses", "solve", "model", "vector"}
LOSS = """
from gnopt.engine.losses import Loss
class Fourth(Loss):
    likelihood = False
    diagonal = True
    def value(self, ops, h, y): return ((h - y) ** 4).sum(axis=1)
    def gradient(self, ops, h, y): return 4 * (h - y) ** 3
    def gn_diagonal(self, ops, h, y): return 12 * (h - y) ** 2
"""


def test_the_built_in_problem_needs_no_file(tmp_path, process, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = process("bench", "--quick", "--rounds", 2, "--out", "bench.csv")
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    header = next(line for line in done.out.splitlines() if line.startswith("method"))
    assert set(header.split()) == {"method", "update", *PHASES}
    assert "Cheapest per update: " in done.out
    assert "gnopt compare" in done.out
    assert "round 1 of 2" in done.err or "first updates" in done.err
    with open("bench.csv") as file:
        rows = list(csv.DictReader(file))
    kfra = {row["phase"]: row for row in rows if row["method"] == "kfra"}
    assert set(kfra) == {"update", *PHASES}
    assert float(kfra["update"]["flops"]) > 0.0
    work = {phase: float(row["flops"]) for phase, row in kfra.items() if row["flops"]}
    assert work.pop("update") == pytest.approx(sum(work.values()))
    assert set(work) == {"passes", "statistics", "inverses", "solve", "model"}
    assert {row["updates"] for row in rows} == {"2"}
    assert list(tmp_path.iterdir()) == [tmp_path / "bench.csv"]


def test_a_configuration_is_timed_with_its_own_method_and_settings(tiny, process):
    sets = ["--set", "training.batch_size=8", "--set", "optimizer.factor_period=3"]
    done = process("bench", "tiny.toml", "--rounds", 3, *sets, "--json", "-q")
    assert done.code == 0, done.err
    assert done.err == ""
    document = json.loads(done.out)
    assert document["problem"].pop("processor")
    assert "levenberg_marquardt" in document["problem"].pop("auto")
    assert document["problem"] == {
        "network": [12, 8, 3, 8, 12],
        "loss": "binary_cross_entropy",
        "batch": 8,
        "dtype": "float32",
        "device": "cpu",
        "method": "kfra",
    }
    (result,) = document["results"]
    costs = {cost["method"]: cost for cost in result["methods"]}
    assert costs["kfra"]["period"] == 30
    assert set(costs["kfra"]["phases"]) == PHASES
    assert not set(costs) & set(result["left_out"])


def test_each_number_of_threads_has_a_process_of_its_own(tiny, process):
    asked = ["--methods", "adam,kfra", "--rounds", 1, "--seed", 3, "--threads", "1,2"]
    done = process("bench", "tiny.toml", *asked, "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert [result["threads"] for result in document["results"]] == [1, 2]
    (best,) = [line for line in document["advice"] if "Best number of threads for kfra" in line]
    assert "OMP_NUM_THREADS=" in best


def test_a_method_that_the_loss_does_not_allow_is_left_out(tiny, process):
    (tiny / "mine.py").write_text(LOSS)
    mine = ["--set", "network.loss=mine:Fourth", "--allow-plugins", "--rounds", 1]
    done = process("bench", "tiny.toml", "--methods", "kfac,kfra", *mine)
    assert done.code == 0, done.err
    assert "Not timed: kfac: " in done.out
    assert "not a likelihood" in " ".join(done.out.split())
    alone = process("bench", "tiny.toml", "--methods", "kfac", *mine)
    assert alone.code == 2
    assert "not a likelihood" in alone.err


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["--methods", "kfrs,adma"], ["'kfrs' (did you mean 'kfra'?)", "(did you mean 'adam'?)"]),
        (["--threads", "1,two"], ["--threads '1,two': expected whole numbers"]),
        (["--threads", "0"], ["expected whole numbers >= 1"]),
        (["--out", "."], ["--out .: is a directory"]),
        (["--out", "absent/bench.csv"], ["the directory absent does not exist"]),
        (["--out", "bench.txt"], ["expected a name that ends in .csv"]),
        (["--set", "optimizer.colums=1"], ["--set optimizer.colums: not an option of"]),
        (["--set", "optimizer.damping_a=-1"], ["optimizer.damping_a = -1"]),
        (["--set", "optimizer.method=kfac"], ["named by --methods"]),
        (["--methods", "kfrs", "--dtype", "half"], ["did you mean 'kfra'?", "training.dtype"]),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_before_anything_is_timed(tiny, gnopt, arguments, texts):
    done = gnopt("bench", "tiny.toml", *arguments)
    assert done.code == 2
    assert done.out == ""
    for text in texts:
        assert text in done.err


def test_a_wrong_configuration_is_told_once_for_all_numbers_of_threads(tiny, gnopt):
    done = gnopt("bench", "tiny.tml", "--threads", "1,2")
    assert done.code == 2
    assert done.err.count("did you mean 'tiny.toml'?") == 1


def test_a_process_that_fails_says_why(tiny, gnopt, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ROOT)
    done = gnopt("bench", "tiny.toml", "--threads", 1, "--set", "data.inputs=xx", "--quiet")
    assert done.code == 1
    assert "with 1 thread: " in done.err
    assert "did you mean 'x'?" in done.err

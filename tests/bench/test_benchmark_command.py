"""bin/benchmark: valid tables, CSV and JSON; no times are asserted."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import pytest

from gnopt.errors import ConfigError
from gnopt.optimizers.timing import PHASES
from peers.growth import exponent
from peers.problems import QUICK, SPECIAL, chosen
from peers.rounds import Row, Sample, summarise
from peers.subjects import Subject
from peers.targets import evaluations, hits

ROOT = Path(__file__).parents[2]


def command(*argv: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "peers", *map(str, argv)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "bin")])},
    )
    assert done.returncode == code, done.stderr
    return done


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_quick_run_of_everything(tmp_path):
    out = tmp_path / "out"
    done = command(
        "--quick",
        "--rounds",
        2,
        "--methods",
        "kfra,kflr,adam",
        "--exact",
        "--growth",
        "--time-to-target",
        "--peers",
        "--peer-python",
        tmp_path / "absent",
        "--json",
        "--out",
        out,
    )
    result = json.loads(done.stdout)
    assert result == json.loads((out / "benchmark.json").read_text())
    assert [net["net"] for net in result["nets"]] == ["mnist10k", "classifier"]
    assert "absent" in result["nets"][0]["peers"]["absent"]
    found = rows(out / "phases.csv")
    for net in ("mnist10k", "classifier"):
        phases = {r["phase"] for r in found if (r["net"], r["method"]) == (net, "kfra")}
        assert phases == {*PHASES, "update"}
        assert {r["method"] for r in found if r["net"] == net} == {
            "forward+backward",
            "kfra",
            "kflr",
            "adam",
        }
    for row in found:
        assert float(row["seconds"]) >= 0.0
        assert bool(row["gflop"]) == bool(row["ratio_to_floor"])
    assert {"gemm", "syrk", "potrf"} < set(rows(out / "rates.csv")[0])
    assert len(rows(out / "rates.csv")) == 4
    assert {r["method"] for r in rows(out / "exact.csv")} == {"kfra", "kflr"}
    assert all(float(r["peak_megabytes"]) > 10.0 for r in rows(out / "exact.csv"))
    assert float(rows(out / "targets.csv")[0]["peak_megabytes"]) > 10.0
    assert {r["axis"] for r in rows(out / "exponents.csv")} == {
        "batch",
        "width",
        "depth",
        "outputs",
    }
    assert (out / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_quick_run_with_all_methods(tmp_path):
    done = command("--quick", "--rounds", 1, "--out", tmp_path)
    assert "times over the least" in done.stdout
    assert "kfra-full" in done.stdout
    methods = {r["method"] for r in rows(tmp_path / "phases.csv")}
    assert {"kfra-full", "kfra", "kfac", "ekfac", "kflr-sketch", "gauss_newton", "adam"} <= methods


@pytest.mark.parametrize(
    ("argv", "text"),
    [(["--methods", "kfrs"], "did you mean 'kfra'"), (["--targets", "a"], "expected numbers")],
)
def test_wrong_options(tmp_path, argv, text):
    done = command("--quick", *argv, "--out", tmp_path / "out", code=2)
    assert text in done.stderr
    assert not (tmp_path / "out").exists()


def test_targets_are_read_off_the_evaluations(tmp_path):
    class Ended:
        peak_bytes = 3_000_000

    assert evaluations(tmp_path / "eval.csv") == []
    (tmp_path / "eval.csv").write_text(
        "step,seconds,train_loss\n0,0.0,9.0\n2,1.5,5.0\n4,3.0,4.0\n6,4.5,3"
    )
    found = evaluations(tmp_path / "eval.csv")
    assert found == [(0, 0.0, 9.0), (2, 1.5, 5.0), (4, 3.0, 4.0)]
    first, second = hits("kfra", found, [5.0, 3.5], Ended())
    assert (first.updates, first.seconds, first.objective, first.peak_megabytes) == (
        2,
        1.5,
        5.0,
        3.0,
    )
    assert (second.updates, second.seconds, second.objective) == (None, None, 4.0)


def test_exponent():
    assert exponent([1.0, 10.0, 100.0], [3.0, 300.0, 30000.0]) == pytest.approx(2.0)


def test_an_unknown_variant_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'kfra'"):
        chosen(["kfrs"], QUICK["mnist10k"], slow=False)
    slow = {v.name for v in SPECIAL if v.slow}
    assert not slow & {v.name for v in chosen([], QUICK["mnist10k"], slow=False)}
    assert "kflr" in {v.name for v in chosen([], QUICK["classifier"], slow=False)}


def test_averages_over_a_cycle_and_ratios():
    class Fixed(Subject):
        name, cycle = "fixed", 2
        floor = MappingProxyType({"passes": 1e9, "inverses": 2e9})

    # Inverses in every second update; the rate halves in between, and the times double with it.
    samples = [
        Sample(
            i % 2,
            rate,
            1.0,
            {"passes": 100.0 / rate, "inverses": 800.0 / rate, "update": 900.0 / rate}
            if i % 2
            else {"passes": 100.0 / rate, "update": 100.0 / rate},
        )
        for i, rate in enumerate((100.0, 100.0, 50.0, 50.0, 100.0, 100.0))
    ]
    row: Row = summarise(Fixed(), samples)
    assert row.figures["passes"].ratio == pytest.approx(100.0)
    # 800 every other time, 2 on average as the least
    assert row.figures["inverses"].ratio == pytest.approx(200.0)
    assert row.figures["inverses"].seconds == pytest.approx(4.0)
    assert row.figures["update"].flops == pytest.approx(3e9)

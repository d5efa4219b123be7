"""A run that was interrupted, even by kill -9, ends like one that was not."""

import json
import shutil
import signal

import h5py
import pytest
from cli_tools import rows, same_runs, start
from processes import finish, has_lines, wait_until

from gnopt import optimizers
from gnopt.sealed import seal

VARIANTS = {
    "averaging": ["--set", "optimizer.averaging=0.9"],
    "validation group": ["--set", "data.validation=0"],
    "float64": ["--dtype", "float64"],
    "classifier": ["--set", "data.targets=y", "--set", "network.loss=softmax_cross_entropy"],
    "standardized": ["--set", "data.standardize=true", "--set", "network.loss=squared_error"],
    "method left open": ["--set", "optimizer.method=auto"],
    "levenberg-marquardt": ["--set", "optimizer.damping_rule=lm"],
}


def _compare(gnopt, tiny, settings, stop_at):
    assert gnopt("train", "tiny.toml", "--out", "whole", *settings).code == 0
    assert (
        gnopt("train", "tiny.toml", "--out", "parts", "--max-updates", stop_at, *settings).code == 0
    )
    result = gnopt("train", "tiny.toml", "--out", "parts", "--resume", *settings)
    assert result.code == 0, result.err
    same_runs(tiny / "whole", tiny / "parts")


@pytest.mark.parametrize("method", optimizers.methods())
def test_resume_equals_uninterrupted(tiny, gnopt, method):
    _compare(gnopt, tiny, ["--set", f"optimizer.method={method}"], 5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_resume_equals_uninterrupted_under(tiny, gnopt, variant):
    _compare(gnopt, tiny, VARIANTS[variant], 7)


@pytest.mark.parametrize("stop_at", [0, 1, 3, 4, 12])
def test_resume_from_any_step(tiny, gnopt, stop_at):
    _compare(gnopt, tiny, [], stop_at)


def test_resume_without_the_configuration(tiny, gnopt):
    gnopt("train", "tiny.toml", "--out", "run", "--max-updates", 4)
    result = gnopt("train", "--resume", "--out", "run", "--max-updates", 6)
    assert result.code == 0
    assert len(rows(tiny / "run/steps.csv")) == 6
    assert len(json.loads((tiny / "run/run.json").read_text())["resumed"]) == 1


def test_a_finished_run_resumes_to_the_same_summary(tiny, gnopt):
    first = json.loads(gnopt("train", "tiny.toml", "--out", "run", "--json").out)
    before = (tiny / "run/steps.csv").read_bytes(), (tiny / "run/eval.csv").read_bytes()
    again = json.loads(gnopt("train", "tiny.toml", "--out", "run", "--resume", "--json").out)
    assert first == again
    assert before == ((tiny / "run/steps.csv").read_bytes(), (tiny / "run/eval.csv").read_bytes())


def test_a_changed_setting_is_refused_by_name(tiny, gnopt):
    gnopt("train", "tiny.toml", "--out", "run", "--max-updates", 4)
    before = (tiny / "run/run.json").read_bytes()
    changes = ["--seed", 5, "--set", "training.batch_size=8"]
    result = gnopt("train", "tiny.toml", "--out", "run", "--resume", *changes)
    assert result.code == 2
    for text in ("training.seed", "5", "training.batch_size", "16", "8"):
        assert text in result.err
    assert (tiny / "run/run.json").read_bytes() == before
    free = ["--set", "training.evaluate_every=2", "--set", "training.keep_checkpoints=3"]
    assert gnopt("train", "tiny.toml", "--out", "run", "--resume", *free).code == 0


def test_changed_data_is_refused(tiny, gnopt):
    import h5py

    gnopt("train", "tiny.toml", "--out", "run", "--max-updates", 4)
    (tiny / "tiny.h5").rename(tiny / "moved.h5")
    assert (
        gnopt("train", "--resume", "--out", "run", "--max-updates", 5, "--data", "moved.h5").code
        == 0
    )
    with h5py.File(tiny / "moved.h5", "a") as file:
        file["x"][0, 0] += 1
    result = gnopt("train", "--resume", "--out", "run", "--max-updates", 6, "--data", "moved.h5")
    assert result.code == 1
    assert "moved.h5" in result.err


def test_resume_needs_the_directory_of_a_run(tiny, gnopt):
    assert gnopt("train", "tiny.toml", "--resume").code == 2
    assert gnopt("train", "tiny.toml", "--resume", "--out", "absent").code == 2
    assert not (tiny / "absent").exists()
    assert gnopt("train", "tiny.toml", "--resume", "--overwrite", "--out", "absent").code == 2


def test_half_a_line_and_files_in_the_making_are_ignored(tiny, gnopt):
    gnopt("train", "tiny.toml", "--out", "whole")
    gnopt("train", "tiny.toml", "--out", "parts", "--max-updates", 5)
    with (tiny / "parts/steps.csv").open("a") as file:
        file.write("6,1.0,96")
    (tiny / "parts/checkpoints/.tmp-1-step-000006.h5").write_bytes(b"half")
    (tiny / "parts/checkpoints/step-000009.h5").write_bytes(b"not yet named by latest")
    assert gnopt("train", "tiny.toml", "--out", "parts", "--resume").code == 0
    same_runs(tiny / "whole", tiny / "parts")


def test_a_lost_latest_falls_back_to_the_newest(tiny, gnopt):
    gnopt("train", "tiny.toml", "--out", "run", "--max-updates", 5)
    (tiny / "run/checkpoints/latest").unlink()
    assert gnopt("train", "tiny.toml", "--out", "run", "--resume").code == 0


def test_a_state_without_an_entry_is_refused(tiny, gnopt):
    """As a checkpoint of an earlier version does: one line says so, and how its weights can be
    used.
    """
    gnopt("train", "tiny.toml", "--out", "run", "--max-updates", 5)
    path = tiny / "run/checkpoints/step-000005.h5"
    with h5py.File(path, "a") as file:
        del file["state/optimizer/factors/blocks/1/G"]
    seal(path)
    result = gnopt("train", "tiny.toml", "--out", "run", "--resume")
    assert result.code == 1
    assert "Traceback" not in result.err
    for words in ("step-000005.h5", "no 'factors/blocks/1/G'", "--init-from"):
        assert words in result.err
    assert (
        gnopt("train", "tiny.toml", "--out", "new", "--init-from", path, "--max-updates", 5).code
        == 0
    )


LONG = [
    "--max-updates",
    "100000",
    "--set",
    "training.checkpoint_every=20",
    "--set",
    "training.evaluate_every=40",
]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_with_a_checkpoint_and_the_resume_command(tiny, gnopt, number, code):
    child = start("train", "tiny.toml", "--out", "run", "-q", *LONG)
    wait_until(lambda: has_lines(tiny / "run/steps.csv", 5), child)
    child.send_signal(number)
    out, err = finish(child)
    assert child.returncode == code, err
    assert "gnopt train --resume --out run" in err
    assert out == ""
    assert "Traceback" not in err
    done = int((tiny / "run/checkpoints/latest").read_text()[5:11])
    assert len(rows(tiny / "run/steps.csv")) == done
    info = json.loads((tiny / "run/run.json").read_text())
    assert info["status"] == "interrupted"
    assert info["exit_code"] == code
    assert info["step"] == done
    assert gnopt("train", "--resume", "--out", "run", "--max-updates", done + 10).code == 0
    whole = [*LONG[2:], "--max-updates", done + 10]
    assert gnopt("train", "tiny.toml", "--out", "whole", *whole).code == 0
    same_runs(tiny / "whole", tiny / "run")


def test_a_second_process_is_kept_out(tiny, gnopt):
    child = start("train", "tiny.toml", "--out", "run", "-q", *LONG)
    try:
        wait_until(lambda: has_lines(tiny / "run/steps.csv", 3), child)
        for extra in (["--resume"], ["--overwrite"]):
            result = gnopt("train", "tiny.toml", "--out", "run", *LONG, *extra)
            assert result.code == 1
            assert "in use" in result.err
            assert str(child.pid) in result.err
    finally:
        child.kill()
        child.communicate()


def test_a_run_killed_at_its_very_end_leaves_no_old_checkpoint(tiny, gnopt):
    """Killed after its last checkpoint was written, before the old ones were deleted."""
    assert gnopt("train", "tiny.toml", "--out", "run").code == 0
    folder = tiny / "run/checkpoints"
    names = sorted(path.name for path in folder.iterdir())
    assert "step-000003.h5" not in names
    shutil.copy(folder / "step-000012.h5", folder / "step-000003.h5")
    assert gnopt("train", "--resume", "--out", "run").code == 0
    assert sorted(path.name for path in folder.iterdir()) == names

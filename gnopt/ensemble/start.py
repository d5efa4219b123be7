"""Start an ensemble in a new directory, or resume one whose members are not all trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnopt import machine
from gnopt.config import Config, Flags, load
from gnopt.engine.arrays import Device, check_device, get_backend
from gnopt.ensemble.members import Member, members_of
from gnopt.errors import ConfigError
from gnopt.toml import to_toml
from gnopt.training import rundir
from gnopt.training.estimate import estimate_cost, refuse_too_large
from gnopt.training.origin import check_data, config_to_resume
from gnopt.training.rundir import RunDirectory
from gnopt.training.setup import Experiment, build
from gnopt.training.start import describe_run
from gnopt.workers.cores import Allocation


@dataclass
class Ensemble:
    """An ensemble whose directory is open, and what its processes get of the machine."""

    config: Config
    run: RunDirectory
    allocation: Allocation
    headline: str  # data and network, in a line

    @property
    def members(self) -> list[Member]:
        """All members, trained or not."""
        return members_of(self.config)


def is_asked_for(
    config: Path | None, sets: tuple[str, ...], flags: Flags, out: Path | None
) -> bool:
    """Return whether the configuration, or without it that of the run ``out``, is an ensemble's."""
    path = config or (out or Path()) / "config.toml"
    return path.is_file() and load(path, sets, flags).training.networks > 1


def begin(
    config: Config,
    out: Path | None,
    init_from: Path | None,
    overwrite: bool,
    jobs: int | None,
    argv: list[str],
    headline: Callable[[Experiment, Path], str],
) -> Ensemble:
    """Create the directory of an ensemble, none of whose members is trained yet.

    ``out`` of None chooses a free directory below ``runs``. ``jobs`` is the number of members to
    train at a time; None leaves it to the machine. Raises GnoptError with nothing written.
    """
    if out is not None:
        rundir.check_free(out, overwrite)
    path = out or rundir.default_run_path(
        config.path.stem if config.path else "run", config.method, config.training.seed
    )
    experiment = _first_member(config)
    try:
        if init_from is not None:
            experiment.initial_weights(init_from)  # raises an error if they do not fit
        allocation = allocate(experiment, config.training.networks, jobs, None)
        info = {
            **_describe(config, experiment, allocation, argv),
            "init_from": str(init_from.resolve()) if init_from else None,
        }
        line = headline(experiment, path)
    finally:
        experiment.data.close()
    run = RunDirectory.create(path, to_toml(config.values()), info, overwrite)
    return Ensemble(config, run, allocation, line)


def resume(
    config_path: Path | None,
    sets: tuple[str, ...],
    flags: Flags,
    out: Path,
    jobs: int | None,
    argv: list[str],
    headline: Callable[[Experiment, Path], str],
) -> Ensemble:
    """Open the ensemble in ``out`` again; its members have as many threads as before.

    The configuration is ``config_path``, or the ensemble's own without it. Raises ConfigError if a
    setting changed that the numbers depend on, and DataError if the data changed.
    """
    run = RunDirectory.resume(out)
    try:
        config = config_to_resume(run, config_path, sets, flags)
        experiment = _first_member(config)
        try:
            check_data(run, experiment.data.fingerprint)
            threads = run.info.get("processes", {}).get("threads")
            allocation = allocate(experiment, config.training.networks, jobs, threads)
            info = _describe(config, experiment, allocation, argv)
            line = headline(experiment, out)
        finally:
            experiment.data.close()
        run.reopen(to_toml(config.values()), info)
        return Ensemble(config, run, allocation, line)
    except BaseException:
        run.close()
        raise


def _first_member(config: Config) -> Experiment:
    """Build what the first member computes with, on the CPU: on a GPU, this process would keep
    memory that the members need. Raises GnoptError if data, network, method or device are wrong.
    """
    check_device(config.training.device)
    return build(members_of(config)[0].config(config), get_backend("cpu"))


def allocate(
    experiment: Experiment, members: int, jobs: int | None, threads: int | None
) -> Allocation:
    """Share the machine out among members such as ``experiment``.

    ``threads`` is how many an ensemble has begun with: results depend on it. Without ``jobs``, as
    many members are trained at a time as there are cores for and as fit into memory, one on a GPU.
    Raises GnoptError if not even one fits, ConfigError for a thread variable that is no number.
    """
    device = experiment.config.training.device
    on_host = Device.parse(device).backend.on_host
    cores = len(machine.usable_cores())
    threads = threads or _threads_of_environment()
    at_a_time = 1
    if on_host:
        cost = estimate_cost(experiment)
        refuse_too_large(cost, experiment)
        at_a_time = max(1, min(cores // (threads or 1), cost.free // max(1, cost.total)))
    jobs = min(jobs or at_a_time, members)
    threads = threads or max(1, cores // jobs)
    return Allocation(jobs, threads, cores, gpus=() if on_host else (device,))


def _threads_of_environment() -> int | None:
    """Return the threads that the user asked for by an environment variable, None without one."""
    for name, value in machine.chosen_threads().items():
        outermost = value.partition(",")[0]  # OpenMP takes a list, for loops within loops
        if not outermost.isdecimal() or not int(outermost):
            raise ConfigError(f"{name}={value!r} in the environment: expected a number of threads")
        return int(outermost)
    return None


def _describe(
    config: Config, experiment: Experiment, allocation: Allocation, argv: list[str]
) -> dict[str, Any]:
    """Return what run.json records of an ensemble; ``experiment`` is that of its first member."""
    facts = describe_run(experiment, argv)
    facts["seed"] = config.training.seed
    facts["configuration"] = config.values()
    facts["members"] = config.training.networks
    facts["processes"] = {"jobs": allocation.jobs, "threads": allocation.threads}
    return facts

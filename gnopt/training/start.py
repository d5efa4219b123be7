"""Start a run in a new directory, or resume one from its newest checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gnopt import machine, plug_ins, provenance
from gnopt.config import Config, Flags
from gnopt.engine.arrays import Array
from gnopt.errors import DataError
from gnopt.notes import note
from gnopt.optimizers.base import State
from gnopt.toml import to_toml
from gnopt.training import checkpoint, decay_search, rundir
from gnopt.training.decay_search import DecayChoice
from gnopt.training.loop import Counters, Reporter, Trainer
from gnopt.training.origin import check_data, config_to_resume
from gnopt.training.recovery import find_place
from gnopt.training.rundir import Marks, RunDirectory
from gnopt.training.setup import Experiment, build, flat
from gnopt.training.state import Tree, from_tree
from gnopt.training.stopping import Ends
from gnopt.training.watch import Watch


def describe_run(experiment: Experiment, argv: list[str]) -> dict[str, Any]:
    """Return what run.json records, so that a reader can tell where a run's numbers come from."""
    config = experiment.config
    return {
        "argv": argv,
        "working_directory": str(Path.cwd()),
        "plug_ins": plug_ins.records([config.network.loss, *config.network.activations]),
        "versions": {**provenance.versions(), **experiment.ops.versions()},
        "device": config.training.device,
        "seed": config.training.seed,
        "method": config.method,
        "dtype": config.training.dtype,
        "data": experiment.data.fingerprint.record(),
        "configuration": config.values(),
        "threads": {"cores": machine.core_count(), **machine.chosen_threads()},
        "parameters": experiment.net.size,
        "sizes": list(experiment.net.sizes),
    }


def begin(
    config: Config,
    out: Path | None,
    init_from: Path | None,
    overwrite: bool,
    reporter: Reporter,
    argv: list[str],
    check: Callable[[Experiment], None],
    clock: Callable[[], float] = time.perf_counter,
) -> Trainer:
    """Create a run directory and return a trainer at step 0.

    ``out`` of None chooses a free directory below ``runs``. ``check`` is called with the experiment
    before anything is written, and may refuse it. ``clock`` is what the trainer counts its seconds
    by. Raises GnoptError with nothing written.
    """
    if out is not None:
        rundir.check_free(out, overwrite)
    experiment = build(config, trained=_model_of_inputs(config, init_from))
    config = experiment.config
    check(experiment)
    choice = decay_search.choose(experiment, reporter.note)
    experiment, ends = _decided(experiment, choice)
    theta = experiment.initial_weights(init_from)
    state = experiment.optimizer.init(theta)
    path = out or rundir.default_run_path(
        config.path.stem if config.path else "run", config.method, config.training.seed
    )
    info = {
        **describe_run(experiment, argv),
        "init_from": str(init_from.resolve()) if init_from else None,
        "weight_decay": choice.facts() if choice else None,
    }
    run = RunDirectory.create(path, to_toml(config.values()), info, overwrite)
    return Trainer(experiment, run, theta, state, Counters(), Watch(), ends, reporter, clock)


def _decided(experiment: Experiment, choice: DecayChoice | None) -> tuple[Experiment, Ends]:
    """Return the experiment under the weight decay that cross-validation chose, if it did, and what
    the run begins with: without validation rows, the updates that were enough in the trials.
    """
    if choice is None:
        return experiment, Ends()
    limit = choice.limit if experiment.data.validation is None else 0
    return experiment.with_decay(choice.best.decay), Ends(limit=limit)


def _model_of_inputs(config: Config, init_from: Path | None) -> checkpoint.StoredNetwork | None:
    """Return the network that a new run starts from, if its inputs are to be standardised alike.

    They are where data.standardize leaves it open: the weights were trained on such inputs.
    """
    if init_from is None or not config.data.standardize_if_asked():
        return None
    return checkpoint.load_network(init_from)


def resume(
    config_path: Path | None,
    sets: tuple[str, ...],
    flags: Flags,
    out: Path,
    reporter: Reporter,
    argv: list[str],
    check: Callable[[Experiment], None],
) -> Trainer:
    """Return a trainer that continues the run in ``out`` from its newest checkpoint.

    The configuration is ``config_path``, or the run's own without it; ``sets`` and ``flags``
    override its settings. Where the newest checkpoint, or a table before it, is damaged, the run
    goes on from an older one, and says so. Raises ConfigError if a setting changed that the numbers
    depend on, and DataError if the data changed or no checkpoint can be used.
    """
    run = RunDirectory.resume(out)
    try:
        config = config_to_resume(run, config_path, sets, flags)
        place, start = find_place(run), run.info.get("init_from")
        path, init_from = place.path, Path(start) if start else None
        stored = checkpoint.load_network(path) if path else _model_of_inputs(config, init_from)
        experiment = build(config, trained=stored)
        check(experiment)
        check_data(run, experiment.data.fingerprint)
        experiment, ends = _decided(experiment, decay_search.chosen_before(run.info))
        restored = _restore(experiment, path, init_from, ends)
        trainer = Trainer(experiment, run, *restored, reporter)
        counters = trainer.counters
        if place.best_is_lost:
            counters.forget_best()
            (run.checkpoints / "best").unlink(missing_ok=True)
        over = trainer.stop() is not None and counters.step > 0
        run.rewind(
            counters.step,
            Marks.read(checkpoint.remark(path)) if path else None,
            over,
            to_toml(config.values()),
            describe_run(experiment, argv),
        )
        for text in place.notes:
            run.log(text)
            note(text)
        best = run.checkpoints / checkpoint.checkpoint_name(counters.best_step)
        if not over and best.is_file():
            checkpoint.point(run.checkpoints, "best", best)
        if over:  # it may have been killed before it deleted its old checkpoints
            keep, period = config.training.keep_checkpoints, config.training.checkpoint_every
            checkpoint.prune(run.checkpoints, keep, period, best)
        return trainer
    except BaseException:
        run.close()
        raise


def _restore(
    experiment: Experiment, path: Path | None, init_from: Path | None, first: Ends
) -> tuple[Array, State, Counters, Watch, Ends]:
    """Return θ, optimizer state, counters and what was noticed of a checkpoint, or those of step 0
    without one; ``first`` is what a run begins with.
    """
    ops, net = experiment.ops, experiment.net
    if path is None:
        theta = experiment.initial_weights(init_from)
        return theta, experiment.optimizer.init(theta), Counters(), Watch(), first
    stored = checkpoint.load_network(path)
    checkpoint.check_fits(stored, list(net.sizes), path)
    saved = checkpoint.load_state(path)
    try:
        theta = saved["theta"] if "theta" in saved else flat(stored.weights, net.dtype)
        if theta.shape != (net.size,):
            raise ValueError(f"theta of shape {theta.shape}, expected ({net.size},)")
        state = _optimizer_state(experiment, saved["optimizer"])
        watch = from_tree(Watch, saved["watch"], ops, "watch") if "watch" in saved else Watch()
        ends = from_tree(Ends, saved["ends"], ops, "ends") if "ends" in saved else first
        return ops.asarray(theta), state, Counters(**saved["counters"]), watch, ends
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path}:/state: not the state of a run: {error}") from error


def _optimizer_state(experiment: Experiment, tree: Tree) -> State:
    kind = experiment.optimizer.state_type
    try:
        state: State = from_tree(kind, tree, experiment.ops)
    except ValueError as error:
        raise ValueError(
            f"{error} (written by another version of gnopt?); --init-from starts a new run "
            "from its weights"
        ) from error
    return state

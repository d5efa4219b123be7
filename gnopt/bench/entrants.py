"""Which methods are timed: those that were named, or those whose updates are not too dear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gnopt import optimizers
from gnopt.aims import OBJECTIVE
from gnopt.config import Config, Flags, load
from gnopt.errors import ConfigError, GnoptError, SettingProblem, SettingsError
from gnopt.method_options import asked_options, of_optimizer, options_for
from gnopt.optimizers.base import Optimizer, OptimizerSettings
from gnopt.registry import suggestion
from gnopt.training.estimate import estimate_cost
from gnopt.training.setup import Experiment

ALL = "all"
# Times the flops of the cheapest method: from the first on it is timed only where it is named, or
# "all" are; from the second on, which takes minutes an update, only where it is named.
TOO_DEAR, HOPELESS = 5.0, 3000.0


@dataclass(frozen=True)
class BenchRequest:
    """The problem to time and the methods that ``--methods`` names; none leaves the choice open."""

    config: Path
    sets: tuple[str, ...]
    flags: Flags
    methods: tuple[str, ...]


def read_config(request: BenchRequest) -> Config:
    """Read the configuration without the ``--set`` texts of [optimizer], which go to the methods.

    Raises ConfigError with all problems at once, methods that do not exist among them.
    """
    known = optimizers.methods()
    wrong = [name for name in request.methods if name not in known and name != ALL]
    problems = [
        f"--methods: unknown method '{name}'{suggestion(name, known)}; known: {', '.join(known)}"
        for name in wrong
    ]
    try:
        config = load(
            request.config, [text for text in request.sets if not of_optimizer(text)], request.flags
        )
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    return config.aimed(OBJECTIVE)


def build_methods(
    request: BenchRequest, experiment: Experiment
) -> tuple[dict[str, Optimizer[Any]], dict[str, str]]:
    """The methods to time by name, and for each method that is left out the reason.

    Raises ConfigError where an option of ``--set`` is wrong, GnoptError where the methods do not
    fit into memory together.
    """
    every = list(optimizers.methods())
    named = every if ALL in request.methods else list(dict.fromkeys(request.methods))
    asked = asked_options(request.sets, named or every)
    left_out: dict[str, str] = {}
    allowed = []
    for name in named or every:
        try:
            optimizers.check(name, experiment.loss)
            allowed.append(name)
        except ConfigError as error:
            left_out[name] = str(error)
    if not allowed:
        raise ConfigError([f"--methods: {reason}" for reason in left_out.values()])
    settings = _method_settings(experiment.config, allowed, asked)
    problem = experiment.optimizer.problem
    built = {name: optimizers.make(name, problem, own) for name, own in settings.items()}
    if not named:
        _leave_out_dear(built, left_out, experiment)
    elif ALL in request.methods:
        _leave_out_hopeless(built, left_out, experiment, request.methods)
    _check_memory(built, experiment)
    return built, left_out


def _method_settings(
    config: Config, names: Sequence[str], asked: dict[str, object]
) -> dict[str, OptimizerSettings]:
    """Return the checked settings of each method; SettingsError with all problems at once."""
    found: dict[str, OptimizerSettings] = {}
    problems: dict[SettingProblem, None] = {}
    for name in names:
        own = {k.partition(".")[2]: v for k, v in options_for(config, name, asked).items()}
        record, wrong = optimizers.get_method(name).settings.parse(own, "optimizer")
        problems |= dict.fromkeys(replace(problem, source="--set") for problem in wrong)
        if record is not None:
            found[name] = record
    if problems:
        raise SettingsError(problems)
    return found


def _leave_out_hopeless(
    built: dict[str, Optimizer[Any]],
    left_out: dict[str, str],
    experiment: Experiment,
    named: Sequence[str],
) -> None:
    """Keep the methods that are named themselves, and those whose updates take a bearable time."""
    flops = _flops(built, experiment)
    cheapest = min(flops.values())
    for name, own in flops.items():
        if own > HOPELESS * cheapest and name not in named:
            left_out[name] = _times(own, cheapest)
            del built[name]


def _flops(built: Mapping[str, Optimizer[Any]], experiment: Experiment) -> dict[str, float]:
    rows = experiment.config.training.batch_size
    return {name: o.cost(o.usual_batch(rows)).flops for name, o in built.items()}


def _times(flops: float, cheapest: float) -> str:
    return f"an update takes {flops / cheapest:.3g} times the flops of the cheapest"


def _leave_out_dear(
    built: dict[str, Optimizer[Any]], left_out: dict[str, str], experiment: Experiment
) -> None:
    """Keep the configured method, the first-order method that does most beside its gradient, and
    the second-order methods whose updates cost up to ``TOO_DEAR`` times as much as the cheapest.
    """
    flops = _flops(built, experiment)
    cheapest = min(flops.values())
    first_order = [name for name in built if optimizers.get_method(name).order == 1]
    spokesman = max(first_order, key=lambda name: flops[name], default="")
    for name, own in flops.items():
        if name in (experiment.config.method, spokesman):
            continue
        if name in first_order:
            left_out[name] = f"{spokesman} costs as much or more"
            del built[name]
        elif own > TOO_DEAR * cheapest:
            left_out[name] = _times(own, cheapest)
            del built[name]


def _check_memory(built: Mapping[str, Optimizer[Any]], experiment: Experiment) -> None:
    """Raise GnoptError where the methods would not fit into memory together."""
    estimates = [
        estimate_cost(replace(experiment, optimizer=optimizer)) for optimizer in built.values()
    ]
    needed = sum(e.total - e.bytes.get("data in memory", 0) for e in estimates)
    if needed > estimates[0].free:
        device = experiment.config.training.device
        raise GnoptError(
            f"{len(built)} methods need {needed:,} bytes together and "
            f"{estimates[0].free:,} are free on {device}: name fewer by --methods, "
            "or set a smaller training.batch_size"
        )

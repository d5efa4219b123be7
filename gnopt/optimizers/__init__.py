"""Training methods: first-order siblings, one file each, and the second-order update that drives
every curvature.

``methods()`` is the table of names a configuration may use: a file here that defines ``OPTIMIZER``
adds a method of that name; a file in ``curvature`` that defines ``CURVATURE`` adds a method driven
by ``second_order.py``.

Reading order: ``timing`` → ``base`` → ``schedules`` → ``first_order`` → ``preconditioner`` →
``quadratic`` → ``growth`` → ``evidence`` → ``second_order`` → ``solver`` → ``conjugate_gradient``
→ ``dense`` → ``hidden``; then the siblings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from gnopt.aims import AUTO
from gnopt.curvature import all_curvatures
from gnopt.engine.losses import Loss
from gnopt.errors import ConfigError, SettingsError
from gnopt.optimizers.base import Claim, Optimizer, OptimizerSettings, Problem
from gnopt.optimizers.second_order import SecondOrder
from gnopt.optimizers.second_order import settings_of as settings_of_curvature
from gnopt.options import Option, option
from gnopt.registry import discover, suggestion

__all__ = [
    "USUAL",
    "Method",
    "Optimizer",
    "Problem",
    "check",
    "choose",
    "get_method",
    "make",
    "methods",
    "names",
    "options_of",
    "settings_of",
]


USUAL = "kfra"  # for problems that no method claims


@dataclass(frozen=True)
class Method:
    """One entry of the table of methods; ``settings`` is the record of its options."""

    name: str
    summary: str
    settings: type[OptimizerSettings]
    order: int  # 1 or 2
    needs_likelihood: bool
    dtype: str  # in which a run computes unless it is told
    build: Callable[[Problem, Any], Optimizer[Any]]
    colour: str = ""  # "#RRGGBB", in every figure; empty: any that is free
    other_names: tuple[str, ...] = ()  # what other programs call it


def methods() -> dict[str, Method]:
    """Return every training method by name."""
    table = {}
    for name, curvature in all_curvatures().items():
        table[name] = Method(
            name,
            curvature.summary,
            settings_of_curvature(curvature),
            SecondOrder.order,
            curvature.needs_likelihood,
            SecondOrder.dtype,
            partial(SecondOrder, curvature=curvature),
            curvature.colour,
            curvature.other_names,
        )
    for name, optimizer in discover(__name__, "OPTIMIZER").items():
        table[name] = Method(
            name,
            optimizer.summary,
            optimizer.Settings,
            optimizer.order,
            False,
            optimizer.dtype,
            optimizer,
            optimizer.colour,
            optimizer.other_names,
        )
    return dict(sorted(table.items(), key=lambda item: (item[1].order, item[0])))


@dataclass(frozen=True, kw_only=True)
class OpenSettings(OptimizerSettings):
    """The options that can be given while the method is left open: those of any that is chosen."""

    weight_decay: float | str = option(
        AUTO,
        "η in the penalty ½ η ‖W‖² of the weights, biases aside, in units of the loss of the best "
        "constant predictor; auto: as training.aim says",
        choices=(AUTO,),
        low=0.0,
    )


def names() -> tuple[str, ...]:
    """Return what a configuration may say for the method: "auto", or one of the methods."""
    return AUTO, *methods()


def settings_of(name: str) -> type[OptimizerSettings]:
    """Return the record of the options that may be given with this name of a method."""
    return OpenSettings if name == AUTO else get_method(name).settings


def choose(problem: Problem, seconds: float) -> tuple[str, str]:
    """Return the method for a problem and why, for a run of so many seconds (0 = no limit).

    It is the first one that claims the problem for itself (`Optimizer.claim`), or else ``USUAL``.
    """
    refusals = []
    for name, kind in discover(__name__, "OPTIMIZER").items():
        claim: Claim | None = kind.claim(problem, seconds)
        if claim is not None and claim.granted:
            return name, f"method {name}: {claim.reason}"
        if claim is not None:
            refusals.append(f"not {name}, {claim.reason}")
    return USUAL, f"method {USUAL}: {'; '.join(refusals)}"


def get_method(name: str) -> Method:
    """Return the method called ``name``; ConfigError with the nearest name otherwise."""
    table = methods()
    if name not in table:
        raise ConfigError(
            f"unknown method '{name}'{suggestion(name, table)}; known: {', '.join(table)}"
        )
    return table[name]


def options_of(name: str) -> tuple[Option, ...]:
    """Return the options of a method."""
    return settings_of(name).options()


def check(name: str, loss: Loss) -> None:
    """Raise ConfigError where the method cannot serve the loss."""
    if name != AUTO and get_method(name).needs_likelihood and not loss.likelihood:
        others = [
            n for n, c in all_curvatures().items() if c.exact_output and not c.needs_likelihood
        ]
        raise ConfigError(
            f"method '{name}' samples targets from the model, and loss '{loss.name}' is not a "
            f"likelihood; use {' or '.join(others)}"
        )


def make(name: str, problem: Problem, settings: OptimizerSettings) -> Optimizer[Any]:
    """Build a method; ConfigError where it, or one of its settings, cannot serve the loss."""
    check(name, problem.loss)
    problems = list(settings.contradictions(problem.loss))
    if problems:
        raise SettingsError(problems)
    return get_method(name).build(problem, settings)

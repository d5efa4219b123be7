"""Read ``--curvature`` and ``--layers``: which methods, exact blocks and layers to show."""

from __future__ import annotations

from dataclasses import dataclass

from gnopt.curvature import all_curvatures
from gnopt.engine.losses import Loss
from gnopt.errors import ConfigError, nearest
from gnopt.inspection.dense import KINDS


@dataclass(frozen=True)
class Choice:
    """The curvatures that the user wants to see."""

    methods: list[str]  # approximations by name, or "exact"
    kinds: list[str]  # of dense blocks, out of ``KINDS``


def choose_curvatures(text: str | None, loss: Loss) -> Choice:
    """Read ``--curvature``: names joined by commas, ``all``, or None.

    None means every approximation and no dense block. ``gauss_newton`` adds the method ``exact``,
    the exact mean of 𝒢. Raises ConfigError for a name that is unknown or that the loss forbids.
    """
    curvatures = all_curvatures()
    allowed = [name for name, c in curvatures.items() if loss.likelihood or not c.needs_likelihood]
    if text is None:
        return Choice(allowed, [])
    names = [name.strip() for name in text.split(",") if name.strip()]
    if "all" in names:
        return Choice(["exact", *allowed], list(KINDS))
    known = ["all", *KINDS, "exact", *curvatures]
    problems = [
        f"--curvature: unknown '{name}'{nearest(name, known)}; known: {', '.join(known)}"
        for name in names
        if name not in known
    ]
    problems += [
        f"--curvature {name}: samples targets from the model, and loss '{loss.name}' is not a "
        "likelihood"
        for name in names
        if name in curvatures and name not in allowed
    ]
    if not names:
        problems.append(f"--curvature {text!r}: expected names out of {', '.join(known)}")
    if problems:
        raise ConfigError(problems)
    kinds = [kind for kind in KINDS if kind in names]
    methods = ["exact"] if "gauss_newton" in names or "exact" in names else []
    return Choice(methods + [name for name in dict.fromkeys(names) if name in curvatures], kinds)


def choose_layers(text: str, layers: int) -> list[int]:
    """Read ``--layers``: ``all``, or numbers from 1 to ``layers`` joined by commas.

    Raises ConfigError for anything else.
    """
    if text.strip() == "all":
        return list(range(1, layers + 1))
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or not all(name.isdecimal() and 1 <= int(name) <= layers for name in names):
        raise ConfigError(
            f"--layers {text!r}: expected all, or layers from 1 to {layers} joined by commas"
        )
    return sorted({int(name) for name in names})

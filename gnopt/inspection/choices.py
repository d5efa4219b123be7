"""What the user asked to see: methods, exact blocks and layers, from the texts of ``--curvature``
and ``--layers``.
"""

from __future__ import annotations

from dataclasses import dataclass

from gnopt.curvature import all_curvatures
from gnopt.engine.losses import Loss
from gnopt.errors import ConfigError, nearest
from gnopt.inspection.dense import KINDS


@dataclass(frozen=True)
class Choice:
    """Approximations (curvatures of the registry, or ``exact``) and kinds of dense blocks."""

    methods: list[str]
    kinds: list[str]


def choose_curvatures(text: str | None, loss: Loss) -> Choice:
    """Read ``--curvature``: names joined by commas, ``all``, or None for every approximation but no
    dense block.

    ``gauss_newton`` brings the exact mean of 𝒢 with it as the method ``exact``. Raises ConfigError
    for a name that is not known or that the loss does not allow.
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
    """Read ``--layers``: ``all``, or numbers 1..L joined by commas; ConfigError otherwise."""
    if text.strip() == "all":
        return list(range(1, layers + 1))
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or not all(name.isdecimal() and 1 <= int(name) <= layers for name in names):
        raise ConfigError(
            f"--layers {text!r}: expected all, or layers from 1 to {layers} joined by commas"
        )
    return sorted({int(name) for name in names})

"""``--check``: test the user's loss, activations, network and curvature in float64.

A check measures one error, mostly against finite differences, and passes if the error is at most
the tolerance. A check that raises, or gets arrays of the wrong shape or numbers that are not
finite, fails with the reason. The loss is differentiated at the network's own outputs and at random
outputs, the network along random directions in its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gnopt.errors import CheckFailed
from gnopt.inspection import check_activation, check_loss, check_network
from gnopt.inspection.differences import Check, Skip
from gnopt.inspection.subject import Snapshot


@dataclass(frozen=True)
class Verdict:
    """The result of one check."""

    part: str  # what was tested, such as "loss squared_error"
    check: str
    error: float | None  # None if the check does not apply, or failed before it had an error
    tolerance: float
    passed: bool
    reason: str = ""  # why the check failed or does not apply

    def row(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return asdict(self)


def check(snapshot: Snapshot) -> list[Verdict]:
    """Run every check on the subject of ``snapshot``, whose network must be in float64."""
    return [_verdict(part, *one) for part, one in _all(snapshot)]


def _all(snapshot: Snapshot) -> Iterator[tuple[str, Check]]:
    for activation, checks in check_activation.checks(snapshot):
        for one in checks:
            yield f"activation {activation}", one
    for one in check_loss.checks(snapshot):
        yield f"loss {snapshot.subject.loss.name}", one
    for one in check_network.checks(snapshot):
        yield "network", one


def _verdict(part: str, what: str, tolerance: float, measure: Callable[[], float]) -> Verdict:
    try:
        with np.errstate(all="ignore"):
            error = float(measure())
    except Skip as reason:
        return Verdict(part, what, None, tolerance, True, f"not applicable: {reason}")
    except Exception as problem:  # a plug-in may raise anything; the check reports it
        text = str(problem).splitlines()[0] if str(problem) else ""
        return Verdict(part, what, None, tolerance, False, f"{type(problem).__name__}: {text}")
    if not np.isfinite(error):
        return Verdict(
            part, what, None, tolerance, False, "shapes differ, or numbers are not finite"
        )
    return Verdict(part, what, error, tolerance, error <= tolerance)


def refuse_failures(verdicts: list[Verdict]) -> None:
    """Raise CheckFailed with the names of the checks that failed, if any."""
    failed = [f"{v.part}: {v.check}" for v in verdicts if not v.passed]
    if failed:
        shown = "; ".join(failed[:5]) + (f"; and {len(failed) - 5} more" if len(failed) > 5 else "")
        raise CheckFailed(f"{len(failed)} of {len(verdicts)} checks failed: {shown}")

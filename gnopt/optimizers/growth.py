"""When to enlarge the batch: when the next batch takes back too much of the decrease that the last
one promised.

A step δ fitted on one batch expects the slope g·δ < 0 to vanish at its end. On the next,
independent batch the slope g'·δ is positive by as much as δ had fitted the noise of the first. The
share that is taken back,

    noise = g'·δ / (−g·δ),

averaged over updates, is about the noise's share of the preconditioned gradient; g'·δ is computed
anyway for the quadratic model. Above ``growth_noise`` the batch grows by ``growth_rate`` per
update, up to ``growth_limit`` times the configured size and half of the data.
"""

from __future__ import annotations

from typing import Any

from gnopt.options import Option

OPTIONS = (
    Option(
        "growth_limit",
        4.0,
        "float",
        "the batch may grow to this multiple of training.batch_size, and to half of "
        "the data; 1 = fixed batch",
        low=1.0,
    ),
    Option(
        "growth_noise",
        0.05,
        "float",
        "share of the expected decrease that the next batch takes back, averaged, "
        "above which the batch grows",
        low=0.0,
    ),
    Option("growth_rate", 1.05, "float", "factor on the batch per update while it grows", low=1.0),
)
MEMORY = 0.9  # of the moving average of the noise


def initial() -> dict[str, Any]:
    """State of the rule: multiple of the batch size, averaged noise, expected decrease of the last
    step.
    """
    return {"multiple": 1.0, "noise": 0.0, "gain": 0.0}


def rows(state: dict[str, Any], base: int, available: int) -> int:
    """Rows of the next batch."""
    return min(round(base * state["multiple"]), max(base, available // 2), available)


def observe(state: dict[str, Any], settings: dict[str, Any], slope: float) -> None:
    """Take note of the slope along the last step on the new batch."""
    if state["gain"] > 0.0:
        share = min(max(slope / state["gain"], -1.0), 2.0)
        state["noise"] += (1.0 - MEMORY) * (share - state["noise"])
    if state["noise"] > settings["growth_noise"]:
        state["multiple"] = min(
            state["multiple"] * settings["growth_rate"], settings["growth_limit"]
        )

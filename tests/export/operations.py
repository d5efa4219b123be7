"""An activation for each operation that can be traced: exported text is compared with NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gnopt.engine.activations import Activation
from gnopt.engine.arrays.trace import ARGUMENTS, COMPARISONS, LOGIC


def _f(name: str) -> Callable[..., Any]:
    def f(ops: Any, h: Any, out: Any) -> Any:
        function = ops.erf if name == "erf" else getattr(ops.xp, name)
        masks = (h > -0.5, h < 0.5)
        if name in ("log", "log1p", "sqrt"):
            value = function(abs(h) + 0.25)
        elif name in LOGIC:
            value = function(*masks[: ARGUMENTS[name]])
        elif name == "where":
            value = function(masks[1], h, -2.0)
        elif name == "power":
            value = function(abs(h) + 0.25, -1.5)
        elif name in COMPARISONS:
            value = function(h, 0.25)
        else:
            value = function(h, *([0.75] * (ARGUMENTS[name] - 1)))
        out[...] = value
        return out

    return f


def _df(ops: Any, h: Any, a: Any, out: Any) -> Any:
    out[...] = h
    return out


for _name in ARGUMENTS:
    globals()[f"of_{_name}"] = Activation(_name, _name, _f(_name), _df, None)  # type: ignore[arg-type]


def _series(ops: Any, h: Any, out: Any) -> Any:
    """A polynomial of more operations than fit into one line."""
    value = h * 0.0 + 1.0
    for power in range(30):
        value = value * h * (1.0 / (power + 2.0)) + 1.0
    out[...] = value
    return out


long = Activation("long", "many operations", _series, _df, None)  # type: ignore[arg-type]

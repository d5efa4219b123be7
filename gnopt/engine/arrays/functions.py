"""What an element-wise function may ask of ``ops``: the array module and the functions that NumPy
and CuPy lack.

A backend is one such ``ops``; the tracer of ``fuse`` is another, whose arrays are symbols. One text
of each function therefore serves arrays on the host, arrays on a GPU and the making of GPU kernels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

Array = Any  # numpy.ndarray or cupy.ndarray

# function(ops, *inputs[, out]): each element of the result depends on the elements in its place.
Elementwise = Callable[..., Any]


class Functions(ABC):
    """The array module ``xp``, and safe element-wise functions written with it."""

    xp: Any

    def sigmoid(self, h: Array, out: Array | None = None) -> Array:
        """Return 1 / (1 + exp(−h)), finite for every finite h: h is raised to −80 at least, where
        exp(−h) is still far from overflow.
        """
        xp = self.xp
        out = xp.maximum(h, -80.0, out=out)
        xp.negative(out, out=out)
        xp.exp(out, out=out)
        out += 1.0
        return xp.reciprocal(out, out=out)

    def softplus(self, h: Array) -> Array:
        """Return log(1 + exp(h)) = max(h, 0) + log(1 + exp(−|h|)), safe for large |h|."""
        xp = self.xp
        e = xp.abs(h)
        xp.negative(e, out=e)
        xp.exp(e, out=e)
        # log1p is an order of magnitude slower than log; float32 loses nothing that its sums could
        # show.
        e = xp.log1p(e, out=e) if e.dtype == xp.float64 else xp.log(e + 1.0, out=e)
        e += xp.maximum(h, 0.0)
        return e

    @abstractmethod
    def erf(self, h: Array) -> Array:
        """Return the error function of h."""

    @abstractmethod
    def axpy(self, a: Any, x: Array, y: Array) -> None:
        """y ← y + a x for contiguous vectors, without a temporary; ``a`` is a number or a 0-d array
        on the device.
        """

"""A NumPy backend that counts the floating-point operations of the products that are really made.

Its arrays are a subclass of NumPy's, so that ``a @ b`` is counted wherever it is written. The rules
are those of ``gnopt.curvature.cost``: a product (a × b)(b × c) counts 2abc, a Gram matrix half of
that, factorisations as ``Backend`` says; element-wise work, sums and inner products count nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from gnopt.engine.arrays.numpy import NumpyBackend


class Tally:
    """The operations counted so far."""

    flops = 0.0


class Counted(np.ndarray):
    """An array whose products are added to the tally."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        if out is not None:
            kwargs["out"] = tuple(plain(o) for o in out)
        result = getattr(ufunc, method)(*[plain(i) for i in inputs], **kwargs)
        if ufunc is np.matmul:
            Tally.flops += 2.0 * prod(np.shape(result)) * np.shape(inputs[0])[-1]
        return counted(result) if out is None else out[0]

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return counted(function(*plain(args), **plain(kwargs)))


def plain(value: Any) -> Any:
    """Return the same arrays as NumPy's own, whose products nobody counts."""
    if isinstance(value, Counted):
        return value.view(np.ndarray)
    if isinstance(value, dict):
        return {name: plain(v) for name, v in value.items()}
    return type(value)(map(plain, value)) if isinstance(value, (list, tuple)) else value


def counted(value: Any) -> Any:
    """Return the same arrays with their products counted."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value.view(Counted)
    return tuple(map(counted, value)) if isinstance(value, tuple) else value


class Module:
    """``numpy`` with functions that return counted arrays."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if isinstance(found, (type, np.ufunc)) or not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            return counted(found(*args, **kwargs))

        return call


class CountingBackend(NumpyBackend):
    """NumPy's backend with the tally of its products."""

    name = "counting"  # so that a case of NumPy's is moved here
    xp: Any = Module()

    def count(self, work: Callable[[], Any]) -> float:
        """Return the operations of the products that ``work`` makes."""
        before, Tally.flops = Tally.flops, 0.0  # a difference of large sums would be rounded
        work()
        found, Tally.flops = Tally.flops, before
        return found

    def asarray(self, values: Any, dtype: Any = None) -> Any:
        return counted(super().asarray(values, dtype))

    def to_host(self, array: Any) -> np.ndarray:
        return plain(array)

    def axpy(self, a: Any, x: Any, y: Any) -> None:
        super().axpy(plain(a), plain(x), plain(y))

    def gram(self, X: Any, scale: float, out: Any = None) -> Any:
        rows, d = X.shape
        Tally.flops += float(rows) * d * d
        return counted(super().gram(plain(X), scale, plain(out)))

    def cholesky(self, M: Any, what: str) -> Any:
        Tally.flops += len(M) ** 3 / 3.0
        return counted(super().cholesky(plain(M), what))

    def spd_inverse(self, M: Any, what: str) -> Any:
        Tally.flops += float(len(M)) ** 3
        return counted(super().spd_inverse(plain(M), what))

    def eigh(self, M: Any, what: str) -> Any:
        Tally.flops += 9.0 * len(M) ** 3
        return counted(super().eigh(plain(M), what))

    def eigh_stack(self, M: Any) -> Any:
        Tally.flops += 9.0 * len(M) * M.shape[-1] ** 3
        return counted(tuple(super().eigh_stack(plain(M))))

    def orthonormal(self, Y: Any) -> Any:
        n, r = Y.shape
        Tally.flops += 4.0 * n * r * r
        return counted(super().orthonormal(plain(Y)))

    def solve_triangular(self, L: Any, B: Any, transpose: bool = False) -> Any:
        Tally.flops += float(len(L)) * B.size
        return counted(super().solve_triangular(plain(L), plain(B), transpose))

    def cholesky_solve(self, L: Any, B: Any, right: bool) -> None:
        Tally.flops += 2.0 * len(L) * B.size
        super().cholesky_solve(plain(L), plain(B), right)

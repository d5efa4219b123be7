"""Element-wise CUDA kernels as text: what `cuda` fuses into one pass over memory.

A body is a sequence of assignments that C++ and, but for declarations, Python read alike: the tests run it on the
host. ``T`` stands for the arrays' type; every literal is written T(...), because a bare 1.0 would turn float32
arithmetic into float64 on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GATHERED = 32  # most scalars that one kernel gathers


@dataclass(frozen=True)
class Kernel:
    """Parameters as ``cupy.ElementwiseKernel`` takes them, and the body."""

    inputs: str
    outputs: str
    body: str


KERNELS: dict[str, Kernel] = {
    "sigmoid": Kernel("T h", "T p", "p = T(1) / (T(1) + exp(-h))"),  # exp may overflow: p is then exactly 0
    "softplus": Kernel("T h", "T s", "s = max(h, T(0)) + log1p(exp(-fabs(h)))"),
    # One exponential e = exp(−|h|) for both: σ(|h|) = 1/(1 + e), and σ(h) = e σ(|h|) for h < 0.
    "bernoulli": Kernel(
        "T h, T y", "T value, T gradient",
        "T e = exp(-fabs(h)); T s = T(1) / (T(1) + e); "
        "value = max(h, T(0)) + log1p(e) - y * h; "
        "gradient = s * (T(1) + T(h < T(0)) * (e - T(1))) - y"),
    "bernoulli_variance": Kernel("T h", "T v", "T e = exp(-fabs(h)); T s = T(1) / (T(1) + e); v = e * s * s"),
    "tanh_slope": Kernel("T a", "T d", "d = T(1) - a * a"),
    "sigmoid_slope": Kernel("T a", "T d", "d = a * (T(1) - a)"),
    "axpy": Kernel("T a, T x", "T y", "y = y + a * x"),
    "adam": Kernel(
        "T beta1, T beta2, T shift, T rate", "T g, T m, T v",
        "m = beta1 * m + (T(1) - beta1) * g; v = beta2 * v + (T(1) - beta2) * g * g; g = rate * m / (sqrt(v) + shift)"),
}


def gather(dtypes: Sequence[str]) -> Kernel:
    """The kernel that puts 0-d arrays of these types side by side, as float64: one copy fetches them all."""
    inputs = ", ".join(f"raw {dtype} a{i}" for i, dtype in enumerate(dtypes))
    body = " ".join(f"if (i == {i}) out = a{i}[0];" for i in range(len(dtypes)))
    return Kernel(inputs, "float64 out", body)

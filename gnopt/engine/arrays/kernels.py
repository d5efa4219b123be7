"""Element-wise CUDA kernels as text, one pass over memory each: those that `fuse` cannot make.

``T`` stands for the arrays' type. Every literal is written T(...), because a bare 1.0 would turn
float32 arithmetic into float64 on the device. The tests compile the bodies for the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GATHERED = 32  # most scalars that one kernel gathers


@dataclass(frozen=True)
class Kernel:
    """Parameters and body as ``cupy.ElementwiseKernel`` takes them."""

    inputs: str
    outputs: str
    body: str


KERNELS: dict[str, Kernel] = {
    "axpy": Kernel("T a, T x", "T y", "y = y + a * x"),
    "ratio": Kernel("bool where, T a, T b", "T q", "q = where ? a / b : T(0)"),
}


def gather(dtypes: Sequence[str]) -> Kernel:
    """Return the kernel that puts 0-d arrays of these types side by side, as float64: one copy then
    fetches them all.
    """
    inputs = ", ".join(f"raw {dtype} a{i}" for i, dtype in enumerate(dtypes))
    body = " ".join(f"if (i == {i}) out = a{i}[0];" for i in range(len(dtypes)))
    return Kernel(inputs, "float64 out", body)


# ---- NumPy's Philox4x64-10 (Salmon et al. 2011), read anywhere in its stream ---------------------

_ROUND = (
    "auto h{r} = __umul64hi(0xD2E7470EE14C6C93, a{r}); auto l{r} = 0xD2E7470EE14C6C93 * a{r}; "
    "auto g{r} = __umul64hi(0xCA5A826395121157, c{r}); auto m{r} = 0xCA5A826395121157 * c{r}; "
    "auto a{n} = g{r} ^ b{r} ^ (key0 + {bump0:#x}); auto b{n} = m{r}; "
    "auto c{n} = h{r} ^ d{r} ^ (key1 + {bump1:#x}); auto d{n} = l{r}; "
)
_BUMPS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B  # of the key, per round


def _philox(word: str) -> str:
    """Return statements that put number ``word`` of the stream, 64 bits, into ``x``; each value of
    the counter gives four.
    """
    start = f"auto a0 = ({word}) >> 2; auto b0 = a0 ^ a0; auto c0 = b0; auto d0 = b0; "
    rounds = "".join(
        _ROUND.format(r=r, n=r + 1, bump0=r * _BUMPS[0] % 2**64, bump1=r * _BUMPS[1] % 2**64)
        for r in range(10)
    )
    pick = " + ".join(f"{name}10 * ((({word}) & 3) == {k})" for k, name in enumerate("abcd"))
    return f"{start}{rounds}auto x = {pick}; "


# Position ``first`` counts words of 32 bits: a 64-bit word gives two, the low half first.
_HALF = _philox("(first + i) >> 1") + "auto w = (x >> (32 * ((first + i) & 1))) & 0xFFFFFFFF; "
RANDOM: dict[str, Kernel] = {
    "uniform_float32": Kernel(
        "uint64 key0, uint64 key1, uint64 first",
        "float32 u",
        _HALF + "u = float(w >> 8) * float(5.9604644775390625e-08)",
    ),
    "uniform_float64": Kernel(
        "uint64 key0, uint64 key1, uint64 first",
        "float64 u",
        _philox("(first >> 1) + i") + "u = double(x >> 11) * double(1.1102230246251565e-16)",
    ),
    # integers(0, 2, dtype=int8) takes a byte each, lowest first, and keeps its highest bit.
    "signs": Kernel(
        "uint64 key0, uint64 key1, uint64 first",
        "int8 s",
        _philox("(first + (i >> 2)) >> 1")
        + "auto w = x >> (32 * ((first + (i >> 2)) & 1) + 8 * (i & 3) + 7); s = 2 * (w & 1) - 1",
    ),
}

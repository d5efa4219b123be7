"""Element-wise functions become one kernel with NumPy's numbers; functions that cannot be traced
run as they are.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from gpu_case import every_function, make_case, traced

from gnopt.engine.activations import get_activation
from gnopt.engine.arrays import Workspace
from gnopt.engine.arrays.functions import Functions
from gnopt.engine.arrays.fuse import fuse
from gnopt.engine.arrays.numpy import NumpyBackend
from gnopt.engine.network import forward, gradient
from gnopt.optimizers import adam, second_order

CPU = NumpyBackend()
VALUES = np.array(
    [-np.inf, -1e4, -90.0, -3.0, -0.5, -0.0, 0.0, 1e-3, 0.7, 4.0, 100.0, 1e4, np.inf, np.nan]
)


def numpy(function, *arguments, out=None):
    """Call a function on host arrays, without warnings of numbers that are not finite."""
    with np.errstate(all="ignore"):
        return CPU.elementwise(function, *arguments, out=out)


def same(cuda, found, expected):
    tolerance = 3e-7 if expected.dtype == np.float32 else 1e-15
    host = cuda.to_host(found)
    assert host.dtype == expected.dtype
    assert host.shape == expected.shape
    np.testing.assert_allclose(
        host, expected, rtol=50 * tolerance, atol=tolerance
    )  # NaN where NaN is expected


def arguments(activation_name, dtype_name):
    """The activation, h on the host, and what its derivatives are given."""
    f, h = get_activation(activation_name), np.tile(VALUES, (3, 1)).astype(dtype_name)
    return f, h, (None if f.from_output else h, numpy(f.f, h, out=np.empty_like(h)))


def on(cuda, arrays):
    return [None if a is None else cuda.asarray(a) for a in arrays]


def test_activations(cuda, counters, activation_name, dtype_name):
    f, h, kept = arguments(activation_name, dtype_name)
    whole = cuda.asarray(np.c_[h, np.ones(3)].astype(dtype_name))
    given = cuda.asarray(h)
    there = on(cuda, kept)
    counters.reset()
    a = cuda.elementwise(f.f, given, out=cuda.xp.empty_like(given))
    assert (counters.kernels, counters.calls) == (1, 2)  # and empty_like
    in_place = cuda.elementwise(f.f, whole[:, :-1], out=whole[:, :-1])
    slope = cuda.elementwise(f.df, *there, out=whole[:, :-1].T.T)
    curve = cuda.elementwise(f.d2f, *there)
    assert (counters.kernels, counters.calls) == (4, 5)
    same(cuda, a, kept[1])
    same(cuda, curve, numpy(f.d2f, *kept))
    same(cuda, slope, numpy(f.df, *kept, out=np.empty_like(h)))
    same(cuda, whole[:, -1], np.ones(3, dtype_name))
    same(cuda, given, h)
    assert in_place.dtype == dtype_name
    assert np.isnan(kept[1][:, -1]).all()


def test_the_output_may_be_the_input(cuda, activation_name, dtype_name):
    f, h, kept = arguments(activation_name, dtype_name)
    whole = cuda.asarray(np.c_[h, np.ones(3)].astype(dtype_name))
    view = whole[:, :-1]
    assert cuda.elementwise(f.f, view, out=view) is view
    same(cuda, view, kept[1])
    same(cuda, whole[:, -1], np.ones(3, dtype_name))


@pytest.mark.parametrize("columns", [(), (4,)], ids=str)
def test_the_product_with_the_slope(cuda, counters, activation_name, dtype_name, columns):
    f, h, kept = arguments(activation_name, dtype_name)
    x = np.random.default_rng(0).standard_normal((*columns, *h.shape)).astype(dtype_name)
    there, product = on(cuda, kept), cuda.asarray(x)
    counters.reset()
    cuda.times_slope(product, f.df, *there, Workspace(cuda, dtype_name))
    assert (counters.kernels, counters.calls) == (1, 1)  # and no buffer
    same(cuda, product, x * numpy(f.df, *kept, out=np.empty_like(h)))
    with np.errstate(all="ignore"):
        CPU.times_slope(x, f.df, *kept, Workspace(CPU, dtype_name))
    same(cuda, product, x)


def test_launches_of_the_passes(cuda, counters, activation_name):
    case = make_case("squared_error", (activation_name, activation_name))
    net = case.network(cuda)
    theta, x, delta = cuda.asarray(case.theta), cuda.asarray(case.x), cuda.asarray(case.y)
    W, out, workspace = (
        net.views(theta),
        net.views(cuda.xp.empty_like(theta)),
        Workspace(cuda, net.dtype),
    )
    gradient(
        net, W, forward(net, W, x, workspace), delta, out, workspace
    )  # with all buffers that it takes
    counters.reset()
    tape = forward(net, W, x, workspace)
    assert counters.calls == 1 + 3 + 2  # the data; a product for each layer; activations
    gradient(net, W, tape, delta, out, workspace)
    assert counters.calls == 6 + 3 + 2 + 2
    assert counters.kernels == 4


# ---- what can be traced --------------------------------------------------------------------------


def reads_what_it_has_written(ops, h, out):
    out[...] = h + 1.0
    out *= h
    other = ops.xp.empty_like(h)
    other[:] = out
    out -= 0.25
    return ops.xp.add(other, out, out=out)


def masks(ops, h, out):
    xp = ops.xp
    inside = (h > -3) & ~(h >= 4.0) | (h != h)
    out.fill(2)
    out *= inside ^ (abs(h) <= 0.5)
    out += (h < 0.0) * 0.5
    return xp.subtract(out, xp.where(h == 0.7, h, xp.ones_like(h)), out=out)


def powers(ops, h, out):
    ops.xp.power(h, 2, out=out)
    out += 2.0 ** -abs(h) + h**3 - ops.xp.square(h) * ops.xp.pi
    out /= 1 + h**2
    return out


def bounds(ops, h, out):
    xp = ops.xp
    s = xp.sign(h)
    return xp.add(xp.clip(h, -0.5, 0.8), xp.minimum(0.5, xp.maximum(s, 0.25 * h)), out=out)


TRACED = [reads_what_it_has_written, masks, powers, bounds, every_function]


@pytest.mark.parametrize("function", TRACED, ids=lambda f: f.__name__)
def test_functions_that_are_traced(cuda, counters, function, dtype_name):
    h = np.tile(np.where(np.isinf(VALUES), 0.3, np.clip(VALUES, -20.0, 20.0)), (3, 1)).astype(
        dtype_name
    )
    expected = numpy(function, h, out=np.empty_like(h))
    there = cuda.asarray(h)
    counters.reset()
    cuda.elementwise(function, there, out=there)
    assert (counters.kernels, counters.calls) == (1, 1)
    found = cuda.to_host(there)
    limit = (
        2e-4
        if function is powers and dtype_name == "float32"
        else 2e-5
        if dtype_name == "float32"
        else 1e-13
    )
    np.testing.assert_allclose(found, expected, rtol=limit, atol=limit)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_the_larger_of_nan_and_anything_is_nan(cuda, name, dtype_name):
    h, other = (
        np.array(v, dtype=dtype_name)
        for v in ([np.nan, 1.0, np.nan, -2.0], [1.0, np.nan, np.nan, 3.0])
    )

    def function(ops, h, other):
        return getattr(ops.xp, name)(h, other)

    same(cuda, cuda.elementwise(function, *on(cuda, (h, other))), getattr(np, name)(h, other))


def test_a_kernel():
    kernel = traced("float32")["tanh-times-df"]
    assert (kernel.inputs, kernel.outputs) == ("T x1", "T y")
    assert kernel.body == "T v0 = x1 * x1; T v1 = T(1.0) - v0; y = y * v1"


def by_type(ops, h, out):
    return ops.xp.multiply(h, 2.0 if h.dtype == ops.xp.float64 else 3.0, out=out)


def test_a_kernel_is_made_for_one_type(cuda, counters, dtype_name):
    h = np.ones(3, dtype_name)
    there = cuda.asarray(h)
    found = cuda.elementwise(by_type, there, out=there)
    assert counters.kernels == 1
    same(cuda, found, numpy(by_type, h, out=h))


# ---- several results, and arrays that are changed ------------------------------------------------


def two_results(ops, h, factor):
    total = h + factor
    return total, h * total


def test_several_results_are_one_kernel(cuda, counters, dtype_name):
    h = np.linspace(-1.0, 2.0, 12).reshape(3, 4).astype(dtype_name)
    there = cuda.asarray(h)
    for factor in (0.5, -2.0):  # a number is a parameter: the kernel serves every value
        counters.reset()
        found = cuda.elementwise(two_results, there, factor)
        assert (counters.kernels, counters.calls) == (1, 1)
        for one, other in zip(found, CPU.elementwise(two_results, h, factor), strict=True):
            same(cuda, one, other)
    assert len(cuda._kernels_of) == 1


def exchange(ops, a, b, c, x, factor, scratch):
    """Every array takes another's old value; ``c`` may be missing, and ``x`` is only read."""
    scratch[...] = a
    a[...] = b
    b[...] = scratch
    b *= factor
    if c is not None:
        c += x


def sums(ops, a, b, c, x, factor, scratch):
    """This function cannot be a kernel of one element: it needs a sum."""
    ops.xp.multiply(b, factor, out=scratch)
    a += scratch.sum()
    if c is not None:
        ops.axpy(factor, x, c)


@pytest.mark.parametrize("third", [True, False], ids=["three arrays", "two arrays"])
@pytest.mark.parametrize(("function", "kernels"), [(exchange, 1), (sums, 0)])
def test_arrays_changed_in_place(cuda, counters, function, kernels, third, dtype_name):
    a, b, c, x = np.random.default_rng(0).standard_normal((4, 5)).astype(dtype_name)
    arrays = [a.copy(), b.copy(), c.copy() if third else None]
    there, X, workspace = on(cuda, arrays), cuda.asarray(x), Workspace(cuda, dtype_name)
    counters.reset()
    cuda.in_place(function, there, X, 0.5, workspace=workspace)
    if kernels:
        assert (counters.kernels, counters.calls) == (1, 1)  # and no buffer
    CPU.in_place(function, arrays, x, 0.5, workspace=Workspace(CPU, dtype_name))
    assert not np.array_equal(arrays[0], a)
    for found, expected in zip(there[: 2 + third], arrays[: 2 + third], strict=True):
        same(cuda, found, expected)
    same(cuda, X, x)


STEPS = {
    "adam": (adam._update, 3, (0.9, 0.999, 1e-8, -0.01), True),
    "advance": (second_order._advance, 4, (0.7, -0.4, 0.2, 0.9), False),
    "advance without the sum": (second_order._advance, 3, (0.7, -0.4, 0.0, 0.9), False),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_of_optimizers_are_one_kernel(cuda, counters, name, dtype_name):
    function, count, numbers, temporary = STEPS[name]
    arrays = [*np.abs(np.random.default_rng(0).standard_normal((count, 9))).astype(dtype_name)]
    inputs = []
    if function is second_order._advance:
        arrays += [None] * (4 - count)
        inputs = [np.linspace(-1.0, 1.0, 9).astype(dtype_name)]
    there, read = on(cuda, arrays), on(cuda, inputs)
    counters.reset()
    cuda.in_place(
        function,
        there,
        *read,
        *numbers,
        workspace=Workspace(cuda, dtype_name) if temporary else None,
    )
    assert (counters.kernels, counters.calls) == (1, 1)
    CPU.in_place(
        function,
        arrays,
        *inputs,
        *numbers,
        workspace=Workspace(CPU, dtype_name) if temporary else None,
    )
    for found, expected in zip(there[:count], arrays[:count], strict=True):
        same(cuda, found, expected)


# ---- what cannot, and runs as it is --------------------------------------------------------------


@dataclass
class Stretched:
    """A function without a hash, because its number may change."""

    by: float

    def __call__(self, ops, h, out):
        return ops.xp.multiply(h, self.by, out=out)


def assigns(index):
    def function(ops, h, out):
        out[...] = h
        out[index] = 1.0
        return out

    return function


def writes_its_input(ops, h, out):
    h *= 2.0
    out[...] = h
    return out


def leaves_out_unread(ops, h, out):
    out[...] = 0.0
    return h


def reads_before_it_writes(ops, h, out):
    out *= 0.0
    return ops.xp.add(h, 1.0, out=out)


def changes_a_comparison(ops, h, out):
    positive = h > 0.0
    positive &= h < 2.0
    out[...] = positive
    return out


UNTRACED = {
    "a function that is not known": lambda ops, h, out: ops.xp.floor(h, out=out),
    "a sum": lambda ops, h, out: ops.xp.subtract(h, h.mean(axis=0), out=out),
    "a shape": lambda ops, h, out: ops.xp.multiply(h, 1.0 / h.shape[1], out=out),
    "a branch": lambda ops, h, out: ops.xp.add(h, 1.0 if bool((h > 0.0).any()) else 2.0, out=out),
    "a branch on the device": lambda ops, h, out: ops.xp.add(h, 1.0 if ops.on_host else 1, out=out),
    "a number of NumPy's": lambda ops, h, out: ops.xp.multiply(h, np.float64(0.5), out=out),
    "another array": lambda ops, h, out: ops.xp.add(
        h, ops.xp.zeros(h.shape, dtype=h.dtype), out=out
    ),
    "a matrix product": lambda ops, h, out: ops.xp.matmul(
        h, ops.xp.eye(14, dtype=h.dtype), out=out
    ),
    "a number that is not finite": lambda ops, h, out: ops.xp.minimum(h, float("inf"), out=out),
    "a type": lambda ops, h, out: ops.xp.add(h.astype("float64"), 1.0, out=out),
    "a sum of comparisons": lambda ops, h, out: ops.xp.multiply(h, (h > 0.0) + (h > 1.0), out=out),
    "an out by position": lambda ops, h, out: ops.xp.exp(h, out),
    "a row": assigns((slice(None), 0)),
    "writes its input": writes_its_input,
    "another result": leaves_out_unread,
    "reads before it writes": reads_before_it_writes,
    "changes a comparison": changes_a_comparison,
    "no hash": Stretched(0.5),
}


@pytest.mark.parametrize("name", UNTRACED)
def test_functions_that_are_not_traced(cuda, counters, name, dtype_name):
    function = UNTRACED[name]
    h = np.linspace(-2.0, 2.0, 42).reshape(3, 14).astype(dtype_name)
    there, x = cuda.asarray(h), cuda.asarray(h)
    counters.reset()
    found = cuda.elementwise(function, there, out=cuda.xp.zeros_like(there))
    assert counters.kernels == 0
    given = h.copy()
    same(cuda, found, numpy(function, given, out=np.zeros_like(h)))

    def df(ops, h, a, out):
        out.fill(0.0)
        return function(ops, a, out)

    cuda.times_slope(x, df, None, there, Workspace(cuda, dtype_name))
    assert counters.kernels == (name in ("no hash", "reads before it writes"))  # which df mends
    CPU.times_slope(h, df, None, given, Workspace(CPU, dtype_name))
    same(cuda, x, h)


@pytest.mark.parametrize(
    "types", [("float32", "float64"), ("float64", "float32"), ("int64", "float64")], ids=str
)
def test_arrays_of_several_types_are_left_to_the_array_module(cuda, counters, types):
    h, out = np.linspace(-3, 3, 7).astype(types[0]), np.zeros(7, types[1])
    H, OUT = on(cuda, (h, out))
    cuda.elementwise(Functions.sigmoid, H, out=OUT)
    assert counters.kernels == 0
    same(cuda, OUT, CPU.elementwise(Functions.sigmoid, h, out=out))


def test_a_function_that_is_wrong_says_so(cuda):
    def wrong(ops, h, out):
        return ops.xp.no_such_function(h, out=out)

    h = cuda.asarray(np.ones(3))
    with pytest.raises(AttributeError, match="not in CuPy"):
        cuda.elementwise(wrong, h, out=h)


def test_symbols_of_another_function_are_not_taken():
    kept = []

    def first(ops, h, out):
        kept.append(h * 2.0)
        return ops.xp.add(h, kept[-1], out=out)

    def second(ops, h, out):
        return ops.xp.add(h, kept[-1], out=out)

    single = np.dtype("float32")
    assert fuse(first, single, [True], out=True)
    assert fuse(second, single, [True], out=True) is None

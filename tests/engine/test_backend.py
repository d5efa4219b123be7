"""Products, factorisations, safe functions and random numbers of both backends.

Tests that name LAPACK's routines, or look at NumPy's memory, run on the host alone.
"""

import pkgutil
import re
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.special
from reference import close, host, same

import gnopt
from gnopt import registry
from gnopt.engine import arrays
from gnopt.engine.arrays import (
    Backend,
    Device,
    Workspace,
    check_device,
    get_backend,
    shared_by,
)
from gnopt.engine.arrays import numpy as backend
from gnopt.engine.arrays.numpy import NumpyBackend, mirror_lower
from gnopt.engine.losses import get_loss
from gnopt.errors import ConfigError, Diverged

SIZES = [1, 2, 3, 7, 64, 127, 128, 129, 257, 300]


def spd(n, dtype="float64", seed=0):
    X = np.random.default_rng(seed).standard_normal((n + 3, n))
    return (X.T @ X / n + 0.1 * np.eye(n)).astype(dtype)


@pytest.mark.parametrize("n", SIZES)
def test_mirror_lower(n):
    M = np.random.default_rng(0).standard_normal((n, n))
    expected = np.tril(M) + np.tril(M, -1).T
    mirror_lower(M)
    np.testing.assert_array_equal(M, expected)


@pytest.mark.parametrize("n", SIZES)
def test_factorisations(ops, n, dtype_name):
    M = ops.asarray(spd(n, dtype_name))
    kept, tolerance = M.copy(), 1e-11 if dtype_name == "float64" else 1e-3
    L, inverse = ops.cholesky(M, "M"), ops.spd_inverse(M, "M")
    close(L @ L.T, M, tolerance)
    same(L, np.tril(host(L)))
    close(inverse @ M, np.eye(n), tolerance)
    close(
        inverse, inverse.T, 0.0 if ops.on_host else tolerance
    )  # LAPACK leaves one triangle: it is mirrored
    B = ops.asarray(np.random.default_rng(1).standard_normal((n, 2)), dtype=dtype_name)
    close(L @ ops.solve_triangular(L, B), B, tolerance)
    close(L.T @ ops.solve_triangular(L, B, transpose=True), B, tolerance)
    for right in (False, True):
        solved = (B.T if right else B).copy()
        ops.cholesky_solve(L, solved, right)
        close(M @ (solved.T if right else solved), B, 10 * tolerance)
    values, vectors = ops.eigh(M, "M")
    close((vectors * values) @ vectors.T, M, tolerance)
    assert (np.diff(host(values)) >= 0.0).all()
    for result in (L, inverse, values, vectors):
        assert result.dtype == dtype_name
    same(M, kept)


@pytest.mark.parametrize("routine", ["cholesky", "spd_inverse", "eigh"])
def test_what_is_not_finite_is_named(ops, routine):
    for bad in (np.nan, np.inf):
        M = ops.asarray(spd(3))
        M[1, 1] = bad
        with pytest.raises(Diverged, match=r"factor G of layer 2.*3 x 3"):
            getattr(ops, routine)(M, "factor G of layer 2")


@pytest.mark.parametrize("routine", ["cholesky", "spd_inverse"])
def test_what_is_not_positive_definite_is_named(ops, routine, dtype_name):
    M = ops.asarray(np.diag([1.0, -1.0, 2.0]), dtype=dtype_name)
    with pytest.raises(Diverged, match=r"factor A of layer 1.*not positive definite"):
        getattr(ops, routine)(M, "factor A of layer 1")


@pytest.mark.parametrize(("routine", "inner"), [("cholesky", "_potrf"), ("spd_inverse", "_potri")])
def test_single_precision_is_retried_in_double(routine, inner, monkeypatch):
    """M is positive definite by less than float32 can see: c > a² and fl(a²) = c."""
    ops = NumpyBackend()
    a = next(
        a
        for a in np.linspace(0.5, 0.9, 1000, dtype=np.float32)
        if float(np.float32(a * a)) > float(a) ** 2
    )
    M = np.array([[1.0, a], [a, a * a]], dtype=np.float32)
    original, tried = getattr(backend, inner), []

    def noted(matrix):
        tried.append(matrix.dtype)
        return None if matrix.dtype == np.float32 else original(matrix)

    monkeypatch.setattr(backend, inner, noted)
    result = getattr(ops, routine)(M, "M")
    assert tried == [np.float32, np.float64]
    assert result.dtype == np.float32
    truth = (
        np.linalg.cholesky(M.astype(float))
        if routine == "cholesky"
        else np.linalg.inv(M.astype(float))
    )
    close(result, truth, 1e-5)
    monkeypatch.undo()
    close(getattr(ops, routine)(M, "M"), truth, 1e-5)


def test_gram(ops, dtype_name):
    for n, d in ((1, 1), (1, 5), (5, 1), (40, 13)):
        X = np.random.default_rng(0).standard_normal((n, d)).astype(dtype_name)
        there, limit = ops.asarray(X), 1e-5 if dtype_name == "float32" else 1e-13
        G = ops.gram(there, 1.0 / n)
        close(G, X.T.astype(float) @ X / n, limit)
        assert G.dtype == dtype_name
        close(G, G.T, 0.0 if ops.on_host else limit)  # NumPy calls syrk and mirrors a triangle
        wide = ops.xp.zeros((n, d + 1), dtype=dtype_name)
        wide[:, :-1] = there
        close(ops.gram(wide[:, :-1], 1.0 / n), G, 1e-5)  # of a slice
        out = ops.xp.empty((d, d), dtype=dtype_name)
        assert ops.gram(there, 1.0 / n, out=out) is out
        same(out, G)


def test_axpy_writes_in_place(ops, dtype_name):
    x, y = ops.xp.arange(5, dtype=dtype_name), ops.xp.ones(5, dtype=dtype_name)
    ops.axpy(-2.0, x, y)
    same(y, [1, -1, -3, -5, -7])
    W = ops.xp.ones((2, 3), dtype=dtype_name)
    ops.axpy(1.0, ops.xp.ones(6, dtype=dtype_name), W.reshape(-1))
    same(W, 2.0)


def test_safe_functions(ops, dtype_name):
    h = np.concatenate([np.linspace(-40, 40, 401), [-1e4, -800, 800, 1e4]]).astype(dtype_name)[
        :, None
    ]
    y = np.random.default_rng(0).random(h.shape).astype(dtype_name)
    limit = 1e-14 if dtype_name == "float64" else 2e-6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        there = ops.asarray(h)
        sigmoid, softplus = host(ops.sigmoid(there)), host(ops.softplus(there))
        loss = get_loss("binary_cross_entropy")
        value, p_minus_y = map(host, loss.value_and_gradient(ops, there, ops.asarray(y)))
    wide = h.astype(float)
    np.testing.assert_allclose(sigmoid, scipy.special.expit(wide), rtol=limit, atol=limit)
    np.testing.assert_allclose(softplus, np.logaddexp(0.0, wide), rtol=limit, atol=limit)
    np.testing.assert_allclose(p_minus_y, scipy.special.expit(wide) - y, rtol=limit, atol=limit)
    expected = (np.logaddexp(0.0, wide) - y * wide)[:, 0]
    np.testing.assert_allclose(value, expected, rtol=limit, atol=4e4 * limit)
    np.testing.assert_allclose(
        host(ops.erf(there)), scipy.special.erf(wide), rtol=limit, atol=limit
    )
    for array in (sigmoid, softplus, value, p_minus_y):
        assert array.dtype == dtype_name
    aliased = there.copy()
    assert ops.sigmoid(aliased, out=aliased) is aliased
    same(aliased, sigmoid)


def test_random_numbers_repeat_and_have_the_moments_they_should(ops, dtype_name):
    def draw(seed):
        rng = np.random.default_rng(seed)
        shape = (20_000, 2)
        rate = ops.xp.full(shape, 3.0, dtype=dtype_name)
        return [
            *map(
                host,
                (
                    ops.uniform(rng, shape, dtype_name),
                    ops.normal(rng, shape, dtype_name),
                    ops.rademacher(rng, shape, dtype_name),
                    ops.poisson(rng, rate),
                ),
            )
        ]

    first, second, other = draw(0), draw(0), draw(1)
    for a, b, c, mean, variance in zip(
        first, second, other, (0.5, 0, 0, 3), (1 / 12, 1, 1, 3), strict=True
    ):
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()
        assert a.dtype == dtype_name
        assert abs(a.mean() - mean) < 5.0 * (variance / a.size) ** 0.5
        assert abs(a.var() / variance - 1.0) < 0.05
    assert set(np.unique(first[2])) == {-1.0, 1.0}


def test_scalars_and_transfers(ops):
    assert ops.scalars(np.float32(1.5), ops.asarray(2.0), 3) == [1.5, 2.0, 3.0]
    assert all(type(v) is float for v in ops.scalars(np.float32(1.5)))
    x = ops.xp.ones(3)
    assert ops.asarray(x) is x
    assert isinstance(ops.to_host(x), np.ndarray)
    assert ops.free_memory() > 0
    ops.synchronize()
    loaded, event = ops.upload_beside(lambda: ops.asarray(np.arange(3)))
    ops.wait_for(event)
    same(loaded, [0, 1, 2])


def test_nothing_is_copied_on_the_host():
    x = np.ones(3)
    assert NumpyBackend().asarray(x) is x
    assert NumpyBackend().to_host(x) is x


def test_workspace_hands_out_the_same_memory(ops):
    workspace = Workspace(ops, np.float32)
    large = workspace.take("a", (4, 5))
    large[...] = 1.0
    small = workspace.take("a", (2, 3))
    workspace.take("b", (4, 5))[...] = 3.0
    small[...] = 2.0
    assert float(large.sum()) == 2.0 * 6 + 14
    assert small.shape == (2, 3)
    assert small.dtype == np.float32
    assert small.flags.c_contiguous
    assert workspace.take("a", (50,)).shape == (50,)


class Toy(NumpyBackend):
    """Another backend, of which a machine has two devices."""

    name = "toy"
    numbered = True

    @classmethod
    def check(cls, index):
        if index > 1:
            raise ConfigError(f"this machine has no toy:{index}")

    @classmethod
    def shared_by(cls, processes):
        return {"TOY_SHARE": str(1.0 / processes)}


@pytest.fixture
def toy(monkeypatch):
    """A backend that is found like the others: by its name, in a module of the folder."""
    module = types.ModuleType("gnopt.engine.arrays.toy")
    module.BACKEND = Toy
    monkeypatch.setitem(sys.modules, module.__name__, module)
    found = [*pkgutil.iter_modules(arrays.__path__)]
    extra = pkgutil.ModuleInfo(found[0].module_finder, "toy", ispkg=False)
    monkeypatch.setattr(pkgutil, "iter_modules", lambda path: [*found, extra])
    registry.discover.cache_clear()
    yield
    registry.discover.cache_clear()


def test_devices_by_name():
    assert get_backend("cpu").device == "cpu"
    assert Device.parse("cuda") == Device.parse("cuda:0") != Device.parse("cuda:1")
    for name in ("gpu", "cpu:0", "CPU", " cpu", ""):
        with pytest.raises(ConfigError, match=f"^unknown device '{name}': expected cpu, cuda or "):
            get_backend(name)
    for name in ("cuda:x", "cuda:-1", "cuda:", "cuda:1:2", "cuda:²"):
        with pytest.raises(ConfigError, match=f"^device '{name}': .* with a whole number N$"):
            Device.parse(name)


def test_a_new_backend_is_one_file(toy):
    assert Device.expected() == "cpu, cuda, cuda:N, toy or toy:N"
    ops = get_backend("toy:1")
    assert isinstance(ops, Toy)
    assert ops.device == "toy:1"
    check_device("toy")
    with pytest.raises(ConfigError, match="no toy:7"):
        check_device("toy:7")
    assert shared_by(4)["TOY_SHARE"] == "0.25"


def test_a_backend_defines_all_that_the_contract_leaves_open():
    class Unfinished(Backend):
        name = "unfinished"

    with pytest.raises(TypeError, match="abstract"):
        Unfinished()


def test_factorisations_go_through_the_backend_alone():
    """``xp.linalg`` in an update would escape the checks, the float64 retry and the array's
    precision.
    """
    package = Path(gnopt.__file__).parent
    used = {
        str(path.relative_to(package)): set(re.findall(r"xp\.linalg\.(\w+)", path.read_text()))
        for room in ("engine", "curvature", "optimizers")
        for path in (package / room).rglob("*.py")
        if path.parent.name != "arrays"
    }
    # Stacks of small matrices are the exception: one per data point, already inside a mean.
    assert set().union(*used.values()) <= {"eigh"}

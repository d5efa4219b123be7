"""One parametrisation for all tests: an argument named as below runs over all that the registries
hold, ``ops`` over the engine's backends.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cupy_double import COMPILER, installed
from hypothesis import settings

from gnopt import plug_ins
from gnopt.curvature import all_curvatures
from gnopt.engine.activations import all_activations
from gnopt.engine.arrays.cupy import CudaBackend
from gnopt.engine.arrays.numpy import NumpyBackend
from gnopt.engine.losses import all_losses, get_loss
from gnopt.errors import ConfigError
from gnopt.optimizers import methods

settings.register_profile("gnopt", deadline=None, derandomize=True)
settings.load_profile("gnopt")


@cache
def backends() -> list[Any]:
    """NumPy's, and CuPy's on the strict double: once made it keeps the double, whatever
    ``sys.modules`` has later.
    """
    with installed():
        double = CudaBackend(0)
    needs_compiler = pytest.mark.skipif(not COMPILER, reason="no g++ for the double's kernels")
    return [
        pytest.param(NumpyBackend(), id="numpy"),
        pytest.param(double, id="cupy-double", marks=needs_compiler),
    ]


NO_LIKELIHOOD = "siblings.losses.log_cosh:LogCosh"  # every loss of the package is a likelihood


def provide_plug_in() -> None:
    """Load the plug-in of the tests, which every command that a test runs forgets again."""
    try:
        plug_ins.find(NO_LIKELIHOOD, "loss")
    except ConfigError:
        plug_ins.allow_beside(Path(__file__))
        plug_ins.provide(Path(__file__), [NO_LIKELIHOOD])


provide_plug_in()  # tests are collected by the facts of their losses


@pytest.fixture(autouse=True)
def provided() -> None:
    """Let every test begin with the plug-in of the tests loaded."""
    provide_plug_in()


NAMES = {
    "activation_name": lambda: list(all_activations()),
    "loss_name": lambda: [*all_losses(), NO_LIKELIHOOD],
    "curvature_name": lambda: [name for name, c in all_curvatures().items() if c.block.factored],
    "scaled_name": lambda: [name for name, c in all_curvatures().items() if c.estimates_scales],
    "method_name": lambda: list(methods()),
    "dtype_name": lambda: ["float32", "float64"],
    "ops": backends,  # last, so that both use what a case has cost to find out
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what ``bin/test --long`` asks for."""
    parser.addoption(
        "--long", action="store_true", help="Draw thousands of random faults: hours, not minutes."
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise the arguments named in ``NAMES``, unless a test does so itself."""
    own = " ".join(str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize"))
    for argument, names in NAMES.items():
        if argument in metafunc.fixturenames and argument not in own:
            metafunc.parametrize(argument, names())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what cannot be: a method that samples targets, for a loss that is not a likelihood.

    A test marked ``on_double`` runs on the double with these values alone: checking every call in
    Python is slow.
    """
    sampling = {name for name, method in methods().items() if method.needs_likelihood}
    items[:] = (item for item in items if _wanted(item) and _possible(item, sampling))


def _possible(item: pytest.Item, sampling: set[str]) -> bool:
    """Whether the loss of a test, if it is run over losses, serves the methods that it is run
    over.
    """
    values = getattr(item, "callspec", None) and item.callspec.params  # type: ignore[attr-defined]
    if not values or "loss_name" not in values or get_loss(values["loss_name"]).likelihood:
        return True
    return not any(isinstance(value, str) and value in sampling for value in values.values())


def _wanted(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("on_double")
    if mark is None:
        return True
    values = item.callspec.params  # type: ignore[attr-defined]
    return values["ops"].on_host or all(values[name] in some for name, some in mark.kwargs.items())

"""The double as a backend for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from double import Counters, installed
from double.kernels import ElementwiseKernel

from gnopt.engine.arrays.cupy import CudaBackend


@pytest.fixture
def counters() -> Iterator[Counters]:
    """The double in CuPy's place; what it counted so far."""
    with installed() as found:
        yield found


@pytest.fixture
def cuda(counters: Counters) -> CudaBackend:
    """The CuPy backend on the double."""
    return CudaBackend(0)


@pytest.fixture(
    params=[
        pytest.param(
            "g++", marks=pytest.mark.skipif(not ElementwiseKernel.compiler, reason="no g++")
        ),
        None,
    ],
    ids=["compiled", "read"],
)
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bodies of kernels by g++, and read as Python."""
    monkeypatch.setattr(ElementwiseKernel, "compiler", request.param)

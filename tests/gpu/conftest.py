"""The double as a backend for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cupy_double import COMPILER, Counters, installed

from gnopt.engine.arrays.cupy import CudaBackend

NEED_NO_KERNELS = {"test_cuda_static", "test_cuda_hardware", "test_cuda_wheel"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of this folder that run kernels where nothing can compile them."""
    if COMPILER:
        return
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.stem not in NEED_NO_KERNELS:
            item.add_marker(pytest.mark.skip(reason="no g++ for the double's kernels"))


@pytest.fixture
def counters() -> Iterator[Counters]:
    """The double in CuPy's place, and its counters."""
    with installed() as found:
        yield found


@pytest.fixture
def cuda(counters: Counters) -> CudaBackend:
    """The CuPy backend on the double."""
    return CudaBackend(0)

"""The double as a backend for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from double import Counters, installed

from gnopt.engine.cuda import CudaBackend


@pytest.fixture
def counters() -> Iterator[Counters]:
    """The double in CuPy's place; what it counted so far."""
    with installed() as found:
        yield found


@pytest.fixture
def cuda(counters: Counters) -> CudaBackend:
    """The CuPy backend on the double."""
    return CudaBackend(0)

"""Counter-based random streams: a generator is a pure function of (seed, purpose, counters), so
there is no generator state to save and a resumed run draws the same numbers as one never
interrupted.
"""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """Return the host generator for ``purpose`` (such as "batches" or "kfac") at these counters."""
    key = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), *counters])
    return np.random.Generator(np.random.Philox(key))

"""The one seam between NumPy and CuPy: arrays, backends and devices, under the names that the rest
of the package uses.

A backend is one file that defines ``BACKEND`` (`numpy`, `cupy`); a device such as ``cuda:1`` names
it, and ``get_backend`` finds it. CuPy is imported when a CUDA device is asked for, not before.

Reading order: ``functions`` → ``base`` → ``numpy`` → ``kernels`` → ``trace`` → ``fuse`` →
``cupy`` → ``device``.
"""

from gnopt.engine.arrays.base import Backend, Unchecked, Workspace
from gnopt.engine.arrays.device import Device, check_device, get_backend, shared_by
from gnopt.engine.arrays.functions import Array

__all__ = [
    "Array",
    "Backend",
    "Device",
    "Unchecked",
    "Workspace",
    "check_device",
    "get_backend",
    "shared_by",
]

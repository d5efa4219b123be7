"""Compile element-wise kernels as CuPy would, by NVRTC, without a GPU or driver.

CuPy's own code generator does this; it is private, so these functions fit the release that the
extra ``cuda-check`` installs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gpu_case import traced

from gnopt.engine.arrays.kernels import KERNELS, RANDOM, Kernel, gather

ARCHITECTURES = (75, 80, 90, 120)
HEADER = "".join(
    f"#include <cupy/{name}>\n"
    for name in ("complex.cuh", "carray.cuh", "atomics.cuh", "math_constants.h")
)


def kernels() -> dict[str, tuple[Kernel, str]]:
    """Return every kernel with the type to compile it for; gathers as updates use them."""
    found = {
        f"{name}-{dtype}": (kernel, dtype)
        for dtype in ("float32", "float64")
        for name, kernel in {**KERNELS, **traced(dtype)}.items()
    }
    found |= {
        name: (kernel, "float64" if "float64" in name else "float32")
        for name, kernel in RANDOM.items()
    }
    for count in (1, 3, 7, 12, 21):
        found[f"gather-{count}"] = (gather(["float64", *["float32"] * (count - 1)]), "float32")
    found["gather-flags"] = (gather(["float64", "float32", "bool", "int64"]), "float32")
    return found


def source(kernel: Kernel, dtype: str, ndim: int, contiguous: bool) -> str:
    """Return the CUDA source that CuPy makes of a kernel, for arrays of this type and axes."""
    import cupy
    from cupy._core._carray import Indexer
    from cupy._core._kernel import _ArgInfo, _get_elementwise_kernel_code

    built = cupy.ElementwiseKernel(kernel.inputs, kernel.outputs, kernel.body, "gnopt_kernel")
    types = tuple(np.dtype(dtype if p.dtype is None else p.dtype).type for p in built.params[:-1])
    in_types, out_types, type_map = built._decide_params_type(
        types[: built.nin], types[built.nin :]
    )
    infos = []
    for p, kind in zip(built.params, (*in_types, *out_types), strict=False):
        axes = 0 if p.raw else ndim
        infos.append(_ArgInfo(1, cupy.ndarray, kind, axes, contiguous or p.raw, True))
    infos.append(_ArgInfo(2, Indexer, None, ndim, True, True))
    code = _get_elementwise_kernel_code(
        tuple(infos), type_map, built.params, built.operation, "gnopt_kernel", built.preamble
    )
    return HEADER + code


def compile_for(text: str, architecture: int, method: str) -> bytes:
    """Return the object code (``cubin``) or the ``ptx`` of a source.

    Raises cupy.cuda.compiler.CompileException where the source is wrong.
    """
    import cupy
    from cupy._core.core import _get_cccl_include_options
    from cupy.cuda import compiler

    root = Path(cupy.__file__).parent / "_core" / "include"
    options = [
        "--std=c++17",
        *_get_cccl_include_options(),
        f"-I{root}",
        *(f"-I{path}" for path in _cuda_headers()),
    ]
    options.append(f"-arch={'sm' if method == 'cubin' else 'compute'}_{architecture}")
    return compiler._NVRTCProgram(text, "gnopt.cu", method=method).compile(tuple(options))[0]


def _cuda_headers() -> list[Path]:
    """Return the folders of CUDA's headers: of the runtime's wheel, and of a toolkit's."""
    import nvidia

    return [folder for root in nvidia.__path__ for folder in sorted(Path(root).glob("*/include"))]

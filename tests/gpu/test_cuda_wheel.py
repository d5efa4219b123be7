"""Checks against the real wheel, where the extra ``cuda-check`` is installed; they need neither GPU
nor driver.
"""

from __future__ import annotations

import importlib.util
import re

import pytest
from cupy_double.api import api
from make_cupy_api import generate

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("cupy") or not importlib.util.find_spec("nvidia"),
    reason="CuPy's wheel and NVRTC are not installed: pip install '.[cuda-check]'",
)


@pytest.fixture(scope="module")
def counted():
    return {"objects": 0, "ptx": 0}


def test_the_interface_is_that_of_the_wheel(capsys):
    found = generate()
    if found["version"] != api()["version"]:
        pytest.skip(
            f"the interface of {api()['version']} is written down, the wheel is "
            f"{found['version']}; "
            "python tests/gpu/make_cupy_api.py writes it anew"
        )
    assert found == api()
    parts = [*found["modules"].values(), *found["classes"].values()]
    with capsys.disabled():
        print(
            f"\nCuPy {found['version']}: {sum(map(len, parts))} names and "
            f"{sum(entry.startswith('(') for part in parts for entry in part.values())} "
            "signatures equal the wheel's"
        )


def test_kernels_compile(capsys):
    import nvrtc

    objects = 0
    for name, (kernel, dtype) in nvrtc.kernels().items():
        for ndim, contiguous in ((1, True), (2, False)):
            source = nvrtc.source(kernel, dtype, ndim, contiguous)
            for architecture in nvrtc.ARCHITECTURES:
                found = nvrtc.compile_for(source, architecture, "cubin")
                assert found[:4] == b"\x7fELF", name
                objects += 1
    with capsys.disabled():
        print(
            f"\n{len(nvrtc.kernels())} kernels x {nvrtc.ARCHITECTURES} x 2 layouts: {objects} "
            "objects compiled"
        )


def test_float32_kernels_hold_no_float64(capsys):
    import nvrtc

    checked = 0
    for name, (kernel, dtype) in nvrtc.kernels().items():
        # The loss is summed, and fetched, in float64; sin and cos of CUDA reduce large arguments in
        # it.
        if dtype == "float64" or name.startswith(("gather", "every function")):
            continue
        for ndim, contiguous in ((1, True), (2, False)):
            ptx = nvrtc.compile_for(nvrtc.source(kernel, dtype, ndim, contiguous), 75, "ptx")
            text = ptx.decode() if isinstance(ptx, bytes) else ptx
            assert ".entry" in text, name
            assert not re.search(r"\.f64\b", text), name
            checked += 1
    with capsys.disabled():
        print(f"\n{checked} float32 kernels without a float64 in their PTX")


def test_a_wrong_kernel_does_not_compile():
    import nvrtc
    from cupy.cuda.compiler import CompileException

    from gnopt.engine.arrays.kernels import Kernel

    with pytest.raises(CompileException, match="undefined"):
        nvrtc.compile_for(
            nvrtc.source(Kernel("T h", "T p", "p = exq(h)"), "float32", 1, True), 80, "cubin"
        )
    double = nvrtc.compile_for(
        nvrtc.source(Kernel("T h", "T p", "p = 1.0 / (1.0 + exp(-h))"), "float32", 1, True),
        75,
        "ptx",
    )
    assert re.search(rb"\.f64\b", double if isinstance(double, bytes) else double.encode())


def test_a_device_that_cannot_be_had():
    import cupy

    from gnopt.engine.arrays import get_backend
    from gnopt.errors import ConfigError

    if cupy.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=r"NVIDIA driver|no GPU"):
        get_backend("cuda")

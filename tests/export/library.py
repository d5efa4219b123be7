"""Exported C and Fortran as a shared library, called from Python."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from gnopt.export import export
from gnopt.training.content import Content

COMPILERS = {
    ".c": "gcc -std=c99 -O0 -Wall -Wextra -pedantic -Werror -shared -fPIC {files} -lm -o {out}",
    ".f90": "gfortran -std=f2008 -O0 -Wall -pedantic -Werror -shared -fPIC {files} -o {out}",
}
SYMBOLS = {".c": "{name}_{what}", ".f90": "__{name}_MOD_{what}"}


class Library:
    """Exported files of one language, by name, in a shared library."""

    def __init__(self, suffix: str, folder: Path, contents: Mapping[str, Content]) -> None:
        compiler = COMPILERS[suffix].split()[0]
        if shutil.which(compiler) is None:
            pytest.skip(f"there is no {compiler}")
        for name, content in contents.items():
            export(content, folder / f"{name}{suffix}")
        files = " ".join(f"{name}{suffix}" for name in contents)
        command = COMPILERS[suffix].format(files=files, out="all.so")
        subprocess.run(command.split(), cwd=folder, check=True)
        self.library, self.suffix = ctypes.CDLL(str(folder / "all.so")), suffix
        self.contents = contents

    def _run(self, name: str, what: str, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        function = self.library[SYMBOLS[self.suffix].format(name=name, what=what)]
        pointer = np.ctypeslib.ndpointer(np.float64, flags="C")
        function.argtypes, function.restype = [pointer, pointer], None
        made = np.full((len(x), *shape), np.nan)
        for row, out in zip(x.astype(np.float64), made, strict=True):
            function(row, out)
        return made

    def predict(self, name: str, x: np.ndarray) -> np.ndarray:
        return self._run(name, "predict", x, (self.contents[name].outputs,))

    def deviation(self, name: str, x: np.ndarray) -> np.ndarray:
        """Predictions and their deviations, (rows, 2, K)."""
        function = self.library[SYMBOLS[self.suffix].format(name=name, what="deviation")]
        function.argtypes, function.restype = [np.ctypeslib.ndpointer(np.float64)] * 3, None
        made = np.full((len(x), 2, self.contents[name].outputs), np.nan)
        for row, (y, std) in zip(x, made, strict=True):
            function(row, y, std)
        return made

    def jacobian(self, name: str, x: np.ndarray) -> np.ndarray:
        """The derivatives (rows, K, D); a matrix of Fortran has its columns one after the other."""
        inputs, outputs = x.shape[1], self.contents[name].outputs
        if self.suffix == ".c":
            return self._run(name, "jacobian", x, (outputs, inputs))
        return self._run(name, "jacobian", x, (inputs, outputs)).transpose(0, 2, 1)

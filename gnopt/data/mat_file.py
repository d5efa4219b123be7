"""Read MAT files of MATLAB 4 to 7 with SciPy: variables, fields of structs, cells and text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gnopt.errors import DataError

LONGEST = 10  # fields of fields that are looked into


class MatVariables:
    """The arrays of a MAT file by name; the field of a struct is called struct.field.

    ``left_out`` says of each other variable what it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left_out: dict[str, str] = {}
        self._loaded: dict[str, np.ndarray] = {}
        self._names: list[str] = []
        for name, _, kind in _whosmat(path):
            if kind in ("struct", "cell", "char", "object", "opaque", "function"):
                for inner, value in _arrays(name, self._load(name)):
                    self._keep(inner, value)
            else:
                self._names.append(name)

    @property
    def names(self) -> list[str]:
        return self._names

    def __getitem__(self, name: str) -> np.ndarray:
        if name in self._loaded:
            return self._loaded[name]
        value = self._load(name)
        array: np.ndarray = np.asarray(value.toarray() if hasattr(value, "toarray") else value)
        return array

    def _load(self, name: str) -> np.ndarray:
        import scipy.io

        value: np.ndarray = scipy.io.loadmat(self.path, variable_names=[name])[name]
        return value

    def _keep(self, name: str, value: np.ndarray | str) -> None:
        if isinstance(value, str):
            self.left_out[name] = value
        else:
            self._names.append(name)
            self._loaded[name] = value


def _whosmat(path: Path) -> list[tuple[str, tuple[int, ...], str]]:
    import scipy.io

    try:
        found: list[tuple[str, tuple[int, ...], str]] = scipy.io.whosmat(path)
    except Exception as error:  # SciPy raises its own kinds on damaged files
        raise DataError(
            f"{path}: the MAT file cannot be read: {str(error) or 'damaged'}"
        ) from error
    return found


def _arrays(name: str, value: object, depth: int = 0) -> Iterator[tuple[str, np.ndarray | str]]:
    """Yield (name, array) for everything inside a variable, or (name, what it is instead)."""
    if hasattr(value, "toarray"):
        value = value.toarray()
    if not isinstance(value, np.ndarray):
        yield name, f"an object of class {type(value).__name__}"
    elif value.dtype.names and "MatlabOpaque" not in type(value).__name__:
        if value.size != 1 or depth >= LONGEST:
            yield name, f"{value.size} structs"
            return
        for field in value.dtype.names:
            yield from _arrays(f"{name}.{field}", value.ravel()[0][field], depth + 1)
    elif value.dtype.names or "Matlab" in type(value).__name__:
        yield name, "an object of MATLAB, such as a table or categories"
    elif value.dtype.kind == "O":
        cells = _cells(value)
        yield name, "a cell array of several kinds or sizes" if cells is None else cells
    elif value.dtype.kind in "US":
        words = np.char.strip(value.ravel())
        if len(words) > 1:
            yield name, words
        else:
            yield name, f"the text {str(words[0])[:40]!r}" if len(words) else "empty text"
    else:
        yield name, value


def _cells(cells: np.ndarray) -> np.ndarray | None:
    """Return a cell array of words, or of numbers of one shape, as an array with a row for each."""
    values = [np.asarray(cell) for cell in cells.ravel(order="F")]
    if not values:
        return None
    if all(value.dtype.kind in "US" and value.size <= 1 for value in values):
        return np.array([str(value.ravel()[0]) if value.size else "" for value in values])
    shapes = {value.shape for value in values}
    if len(shapes) > 1 or any(value.dtype.kind not in "biuf" for value in values):
        return None
    stacked = np.stack(values)
    return stacked.reshape(len(values)) if stacked[0].size == 1 else stacked

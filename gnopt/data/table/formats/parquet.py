"""Parquet and Feather, the files of pyarrow, pandas, polars, R and Spark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from gnopt.data.roles import TableForm
from gnopt.data.table.form import Table, Writer
from gnopt.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def require_pyarrow(path: Path) -> None:
    """Raise DataError, with what to install, where pyarrow is missing."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise DataError(
            f"{path}: Parquet and Feather files need pyarrow, which is not installed: "
            "pip install pyarrow"
        ) from None


def read_arrow(path: Path, read: Callable[[Path], pd.DataFrame]) -> Table:
    """Read a file by a function of pandas, and say in a sentence why it cannot be read."""
    require_pyarrow(path)
    try:
        return Table(path, read(path))
    except Exception as error:  # pyarrow raises errors of many kinds for damaged files
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: cannot be read, damaged or incomplete: {first}") from error


@dataclass(frozen=True)
class Parquet:
    """Apache Parquet."""

    name = "Parquet"
    suffixes = (".parquet", ".pq")

    def recognises(self, path: Path, head: bytes) -> bool:
        return head[:4] == b"PAR1"

    def read(self, path: Path, form: TableForm) -> Table:
        import pandas as pd

        return read_arrow(path, pd.read_parquet)

    @property
    def writer(self) -> Writer | None:
        def write(frame: pd.DataFrame, file: IO[bytes], name: str) -> None:
            require_pyarrow(Path(name))
            frame.to_parquet(file, index=False)

        return write


FORMAT = Parquet()

"""Feather, the file form of Arrow tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from gnopt.data.roles import TableForm
from gnopt.data.table.form import Table, Writer
from gnopt.data.table.formats.parquet import read_arrow, require_pyarrow

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Feather:
    """Apache Arrow IPC files (Feather version 2) and Feather version 1."""

    name = "Feather"
    suffixes = (".feather", ".arrow")

    def recognises(self, path: Path, head: bytes) -> bool:
        return head[:6] == b"ARROW1" or head[:4] == b"FEA1"

    def read(self, path: Path, form: TableForm) -> Table:
        import pandas as pd

        return read_arrow(path, pd.read_feather)

    @property
    def writer(self) -> Writer | None:
        def write(frame: pd.DataFrame, file: IO[bytes], name: str) -> None:
            require_pyarrow(Path(name))
            frame.reset_index(drop=True).to_feather(file)

        return write


FORMAT = Feather()

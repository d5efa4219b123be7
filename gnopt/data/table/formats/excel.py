"""Excel workbooks (.xlsx): the first sheet that holds anything."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gnopt.data.roles import TableForm
from gnopt.data.table.form import Table, Writer
from gnopt.errors import DataError

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Excel:
    """An Office Open XML workbook."""

    name = "Excel"
    suffixes = (".xlsx", ".xlsm")

    def recognises(self, path: Path, head: bytes) -> bool:
        if head[:2] != b"PK":
            return False
        try:
            with zipfile.ZipFile(path) as archive:
                return "xl/workbook.xml" in archive.namelist()
        except (OSError, zipfile.BadZipFile):
            return False

    def read(self, path: Path, form: TableForm) -> Table:
        import pandas as pd

        try:
            import openpyxl  # noqa: F401
        except ImportError:
            raise DataError(
                f"{path}: Excel workbooks need openpyxl, which is not installed: "
                "pip install openpyxl (or save the sheet as CSV)"
            ) from None
        header = None if form.header == "no" else 0
        try:
            sheets = pd.read_excel(path, sheet_name=None, header=header)
        except Exception as error:  # a damaged archive or workbook: openpyxl raises many kinds
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"{path}: cannot be read, damaged or incomplete: {first}") from error
        filled = {name: frame for name, frame in sheets.items() if frame.size}
        if not filled:
            raise DataError(f"{path}: no sheet holds a table")
        name, frame = next(iter(filled.items()))
        table = Table(path, frame, first_line=1 if header is None else 2, named=header is not None)
        if len(sheets) > 1:
            others = ", ".join(str(other) for other in sheets if other != name)
            table.notes.append(f"the sheet {name!r} is read, not {others}")
        return table

    @property
    def writer(self) -> Writer | None:
        return None


FORMAT = Excel()

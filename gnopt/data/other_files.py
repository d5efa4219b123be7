"""Say what a file is that holds no rows: archives, packed files, documents, pictures."""

from __future__ import annotations

import zipfile
from pathlib import Path

_OFFICE = {
    "xl/": "an Excel workbook",
    "word/": "a Word document",
    "ppt/": "a PowerPoint presentation",
}
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")
_PACKED = (".csv", ".tsv", ".txt", ".mat", ".npy", ".npz", ".h5", ".hdf5", ".parquet", ".xlsx")
_SPARSE = {"format", "shape", "data"}


# First bytes of files → what they are and what to do with them.
_HEADS = {
    b"\x1f\x8b": "packed by gzip; unpack it, and give what is inside",
    b"BZh": "packed by bzip2; unpack it, and give what is inside",
    b"\xfd7zXZ\0": "packed by xz; unpack it, and give what is inside",
    b"\x28\xb5\x2f\xfd": "packed by zstd; unpack it, and give what is inside",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it, and give what is inside",
    b"Rar!": "a RAR archive; unpack it, and give what is inside",
    b"%PDF": "a PDF document; expected a table, arrays or pictures",
    b"SQLite format 3": "an SQLite database; save a table of it as CSV",
    b"\xd0\xcf\x11\xe0": "an old document of Office, such as .xls; save its table as CSV",
    b"\x89PNG": "one picture; give the folder that it is in",
    b"\xff\xd8\xff": "one picture; give the folder that it is in",
    b"GIF8": "one picture; give the folder that it is in",
    b"II*\0": "one picture; give the folder that it is in",
    b"MM\0*": "one picture; give the folder that it is in",
    b"CDF\x01": "a netCDF 3 file; nccopy -k netCDF-4 makes an HDF5 file of it",
    b"CDF\x02": "a netCDF 3 file; nccopy -k netCDF-4 makes an HDF5 file of it",
    b"\x0e\x03\x13\x01": "an HDF4 file; h4toh5 makes an HDF5 file of it",
    b"SIMPLE  =": "a FITS file; astropy reads it, and numpy.savez writes its arrays",
    b"RDX": "an R workspace; write.csv saves its tables",
    b"ORC": "an ORC file; save its table as Parquet or CSV",
}


def kind_of(head: bytes) -> str | None:
    """Return what a file with these first bytes is and what to do with it, None if that is not
    known.

    >>> kind_of(b"%PDF-1.7")
    'a PDF document; expected a table, arrays or pictures'
    """
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it, and give what is inside"
    return next((kind for start, kind in _HEADS.items() if head.startswith(start)), None)


def refusal(path: Path) -> str | None:
    """Return what a zip archive is and what to do with it, or None if it is an NPZ file.

    Raises OSError and zipfile.BadZipFile if it cannot be read.
    """
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        head = b""
        if "mimetype" in names:
            with archive.open("mimetype") as file:
                head = file.read(80)
    arrays = {name.removesuffix(".npy") for name in names if name.endswith(".npy")}
    if names and len(arrays) == len(names):
        if arrays >= _SPARSE:
            return (
                "a sparse matrix of SciPy; scipy.sparse.load_npz(...).toarray() makes an array "
                "that numpy.save writes"
            )
        return None
    for folder, kind in _OFFICE.items():
        if "[Content_Types].xml" in names and any(name.startswith(folder) for name in names):
            return f"{kind}; save its table as CSV"
    if b"opendocument" in head:
        return "an OpenDocument file; save its table as CSV"
    if any(name.endswith("data.pkl") for name in names):
        return (
            "a file of PyTorch, a pickle that can run code and is never loaded; save its tensors "
            "with numpy.savez"
        )
    if "metadata.json" in names and any(name.endswith(".weights.h5") for name in names):
        return "a model of Keras, not data"
    if "META-INF/MANIFEST.MF" in names:
        return "a Java archive, not data"
    if any(name.lower().endswith(_PICTURES) for name in names):
        return "a zip archive of pictures; unpack it, and give the folder"
    packed = next((name for name in names if name.lower().endswith(_PACKED)), None)
    if packed is not None:
        return f"a zip archive with {packed} in it; unpack it, and give this file"
    inside = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"a zip archive of other things than arrays ({inside or 'nothing'})"

"""Say what a zip archive is: NumPy's NPZ, or one of the many other files that are zip archives."""

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


def refusal(path: Path) -> str | None:
    """Return what a zip archive is and what to do with it, or None if it is an NPZ file.

    Raises OSError and zipfile.BadZipFile if it cannot be read.
    """
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        head = archive.read("mimetype")[:80] if "mimetype" in names else b""
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

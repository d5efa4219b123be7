"""Read TOML files as editors and shells of every system write them; write values as TOML."""

from __future__ import annotations

import codecs
import json
import os
import re
import tomllib
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gnopt.errors import ConfigError

# First bytes of data files that may be given in place of a configuration: ZIP and NPZ, NPY, MAT,
# packed files, IDX, pickles, pictures.
_BINARY = (
    b"PK",
    b"\x93NUMPY",
    b"MATLAB",
    b"\x1f\x8b",
    b"\0\0",
    b"\x80",
    b"\x89",
    b"\xff\xd8",
    b"BZh",
)
# A path of Windows in a string whose backslashes begin escapes, such as "C:\data\x.h5".
_AS_BYTES = "file:"  # begins a file name whose bytes are written as in a URL
_WINDOWS_PATH = re.compile(r'"(?:[A-Za-z]:|\.{0,2}|[\w .-]+)\\')


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file as plain values.

    The file is UTF-8 or, as its byte order mark says, UTF-16: Windows puts a mark in front. Raises
    OSError, and ConfigError with the reason if the file is not TOML.
    """
    content = path.read_bytes()
    if content.startswith(_BINARY):
        raise ConfigError(
            f"{path}: is neither a configuration (TOML) nor a table or an HDF5 file; "
            "`gnopt dataset import` makes HDF5 files of arrays and pictures"
        )
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"byte {error.start} is not {'UTF-16' if wide else 'UTF-8'}"
        raise ConfigError(f"{path}: not a TOML file: {where}") from None
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        hint = _backslash_hint(text)
        hint = f"; {hint}" if hint else ""
        raise ConfigError(f"{path}: not valid TOML: {error}{hint}") from None
    if any(map(_has_control_characters, _strings(values))) and _backslash_hint(text):
        raise ConfigError(f"{path}: {_backslash_hint(text)}")
    return values


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)


def _has_control_characters(text: str) -> bool:
    return any(ord(character) < 32 for character in text)


def _backslash_hint(text: str) -> str:
    line = next((line for line in text.splitlines() if _WINDOWS_PATH.search(line)), None)
    if line is None:
        return ""
    return (
        f"a backslash between double quotes begins an escape: in {line.strip()} write the path "
        "with / or between single quotes"
    )


def read_file_name(value: object) -> object:
    """Return the value of a key that names a file: what `to_toml` wrote of a name that is not
    Unicode is that name again, and anything else is left as it is.
    """
    if isinstance(value, str) and value.startswith(_AS_BYTES) and "%" in value:
        return os.fsdecode(urllib.parse.unquote_to_bytes(value.removeprefix(_AS_BYTES)))
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def to_toml(values: Mapping[str, Mapping[str, object]]) -> str:
    """Write sections as TOML that is read back to the same values; None leaves a key out.

    File names need not be Unicode, but TOML must: `read_file_name` reads what is written of them.

    >>> print(to_toml({"network": {"hidden": [20, 5], "loss": "poisson", "init": None}}))
    [network]
    hidden = [20, 5]
    loss = "poisson"
    <BLANKLINE>
    """
    lines = []
    for section, part in values.items():
        pairs = [f"{name} = {_toml(value)}" for name, value in part.items() if value is not None]
        lines += [f"[{section}]", *pairs, ""]
    return "\n".join(lines)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if not _is_unicode(value):
            value = _AS_BYTES + urllib.parse.quote_from_bytes(os.fsencode(value))
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return repr(value)

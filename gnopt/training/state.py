"""A method's state as the tree of arrays and plain values that a checkpoint stores, and back.

A record becomes a group with one entry a field, a list a group of numbered entries. Reading goes by
the types of the fields, so the state comes back as the records that the method knows. Where a field
may hold one of several records, such as the forms of a factor, the names of the entries tell which.
"""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from inspect import isabstract
from typing import Any

from gnopt.engine.arrays import Array, Backend

Tree = Any  # nested dicts and lists of host arrays, numbers, strings and None

# What a field that is neither a record, a list nor an array may hold.
_PLAIN = {
    float: (float, int),
    int: (int,),
    bool: (bool,),
    str: (str,),
    types.NoneType: (types.NoneType,),
}


def to_tree(value: Any, ops: Backend) -> Tree:
    """Return the tree of a record, with every array on the host."""
    if is_dataclass(value):
        return {f.name: to_tree(getattr(value, f.name), ops) for f in fields(value)}
    if isinstance(value, list):
        return [to_tree(item, ops) for item in value]
    return ops.to_host(value) if hasattr(value, "dtype") and hasattr(value, "shape") else value


def from_tree(kind: Any, tree: Tree, ops: Backend, where: str = "") -> Any:
    """Return the value of type ``kind`` that ``tree`` holds, with every array on the device.

    Raises ValueError naming the entry, such as "factors/blocks/0/A", that does not fit.
    """
    for part in _parts(kind):
        if isinstance(tree, dict) and _records(part):
            return _record(_records(kind), tree, ops, where)
        if isinstance(tree, list) and typing.get_origin(part) is list:
            (item,) = typing.get_args(part)
            return [from_tree(item, one, ops, f"{where}/{i}") for i, one in enumerate(tree)]
        if part is Array and hasattr(tree, "dtype"):
            return ops.asarray(tree)
        if part in _PLAIN and type(tree) in _PLAIN[part]:
            return tree
    expected = " or ".join(map(_words, _parts(kind)))
    raise ValueError(f"'{where.lstrip('/') or 'state'}' is not {expected}")


def _record(records: list[Any], tree: dict[str, Tree], ops: Backend, where: str) -> Any:
    """Return the record, out of these, whose fields the tree holds.

    Where there is only one, entries may be missing whose fields have a default; elsewhere the
    entries say which record it is.
    """
    record = min(records, key=lambda record: len(tree.keys() ^ _names(record)))
    optional = {
        f.name
        for f in fields(record)
        if f.default is not MISSING or f.default_factory is not MISSING
    }
    lacking = [name for name in _names(record) if name not in tree]
    if len(records) == 1:
        lacking = [name for name in lacking if name not in optional]
    unknown = [name for name in tree if name not in _names(record)]
    if lacking or unknown:
        entry = f"{where}/{(lacking + unknown)[0]}".lstrip("/")
        raise ValueError(f"no '{entry}'" if lacking else f"unknown '{entry}'")
    hints = typing.get_type_hints(record)
    return record(**{n: from_tree(hints[n], part, ops, f"{where}/{n}") for n, part in tree.items()})


def _words(part: Any) -> str:
    """What a field of this type holds, for messages."""
    if _records(part):
        return "a record"
    if typing.get_origin(part) is list:
        return "a list"
    names = {Array: "an array", float: "a number", int: "a whole number", types.NoneType: "nothing"}
    return names.get(part, str(part))


def _names(record: Any) -> list[str]:
    return [f.name for f in fields(record)]


def _parts(kind: Any) -> tuple[Any, ...]:
    """Return the types that a field may hold."""
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


def _records(kind: Any) -> list[Any]:
    """Return the records that a field may hold: those of its types, and of their subclasses.

    A class that leaves methods to its subclasses cannot be made, so it is not one of them.
    """
    found = []
    for part in _parts(kind):
        found += [part] if is_dataclass(part) and not isabstract(part) else []
        if isinstance(part, type):
            siblings: list[type] = part.__subclasses__()
            found += [record for sibling in siblings for record in _records(sibling)]
    return found

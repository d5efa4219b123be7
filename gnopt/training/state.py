"""A method's state as the tree of arrays and plain values that a checkpoint stores, and back.

A record becomes a group with one entry a field, a list a group of numbered entries. Reading goes by
the types of the fields, so the state comes back as the records that the method knows. Where a field
may hold one of several records, such as the forms of a factor, the names of the entries tell which.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from gnopt.engine.arrays import Backend

Tree = Any  # nested dicts and lists of host arrays, numbers, strings and None


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
    if isinstance(tree, dict):
        return _record(kind, tree, ops, where)
    if isinstance(tree, list):
        (item,) = typing.get_args(kind) or (Any,)
        return [from_tree(item, part, ops, f"{where}/{i}") for i, part in enumerate(tree)]
    if any(is_dataclass(option) for option in _options(kind)) and tree is not None:
        raise ValueError(f"'{where.lstrip('/')}' is not a record")
    return ops.asarray(tree) if hasattr(tree, "dtype") else tree


def _record(kind: Any, tree: dict[str, Tree], ops: Backend, where: str) -> Any:
    record = _fitting(kind, set(tree), where)
    hints = typing.get_type_hints(record)
    return record(
        **{
            name: from_tree(hints[name], part, ops, f"{where}/{name}")
            for name, part in tree.items()
        }
    )


def _fitting(kind: Any, names: set[str], where: str) -> Callable[..., Any]:
    """Return the record whose fields these are; an entry may be missing where it has a default."""
    records = [option for option in _options(kind) if is_dataclass(option)]
    for record in records:
        if {f.name for f in fields(record)} == names:
            return typing.cast(Callable[..., Any], record)
    if len(records) != 1:
        raise ValueError(
            f"'{where.lstrip('/')}' holds {', '.join(sorted(names))}: not a known form"
        )
    known = {
        f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(records[0])
    }
    lacking = [name for name, required in known.items() if required and name not in names]
    unknown = sorted(names - set(known))
    if lacking or unknown:
        entry = f"{where}/{(lacking + unknown)[0]}".lstrip("/")
        raise ValueError(f"no '{entry}'" if lacking else f"unknown '{entry}'")
    return typing.cast(Callable[..., Any], records[0])


def _options(kind: Any) -> list[Any]:
    """Return the types that a field of this type may hold: parts of a union, and subclasses."""
    if isinstance(kind, types.UnionType):
        return [option for part in typing.get_args(kind) for option in _options(part)]
    below: list[type] = kind.__subclasses__() if isinstance(kind, type) else []
    return [kind, *(option for sub in below for option in _options(sub))]

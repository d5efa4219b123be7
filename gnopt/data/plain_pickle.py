"""Read the plain values of a pickle without running it.

pandas and PyTables store lists of names and columns of words as pickles inside HDF5 files. Loading
a pickle can run any program, so gnopt never does. A pickle is a list of operations on a stack; here
those that make strings, numbers, None, lists, tuples and dictionaries are followed. Whatever would
import or call something leaves an `Opaque` mark in place of its result.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Opaque:
    """What a call would have made; ``state`` is what would have been put into it."""

    state: object = None


class NotPlain(ValueError):
    """The pickle is damaged, or does what is not followed here."""


_MARK = object()
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_CONSTANTS: dict[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_CALLS = {"REDUCE": 2, "NEWOBJ": 2, "NEWOBJ_EX": 3, "STACK_GLOBAL": 2, "GLOBAL": 0}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NOTHING = {"PROTO", "FRAME", "STOP"}


def plain_values(content: bytes) -> Any:
    r"""Return the value of a pickle, with `Opaque` for everything that is no plain value.

    Raises NotPlain if the pickle is damaged.

    >>> plain_values(b"(lp0\nVa\np1\naVb\np2\na.")
    ['a', 'b']
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for operation, argument, _ in pickletools.genops(content):
            _follow(operation.name, argument, stack, memo)
        return stack[-1]
    except NotPlain:
        raise
    except Exception as error:  # pickletools and the stack raise many kinds on damaged pickles
        raise NotPlain(str(error) or type(error).__name__) from error


def _follow(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    if name in _VALUES:
        stack.append(argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name == "MARK":
        stack.append(_MARK)
    elif name in ("EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_DICT"):
        stack.append({"EMPTY_LIST": [], "EMPTY_TUPLE": (), "EMPTY_DICT": {}}[name])
    elif name in ("LIST", "TUPLE", "DICT"):
        items = _popped(stack)
        pairs = dict(zip(items[::2], items[1::2], strict=True)) if name == "DICT" else {}
        stack.append({"LIST": items, "TUPLE": tuple(items), "DICT": pairs}[name])
    elif name in _TUPLES:
        items = [stack.pop() for _ in range(_TUPLES[name])]
        stack.append(tuple(reversed(items)))
    elif name == "APPEND":
        item = stack.pop()
        stack[-1].append(item)
    elif name == "APPENDS":
        items = _popped(stack)
        stack[-1].extend(items)
    elif name == "SETITEM":
        value, key = stack.pop(), stack.pop()
        stack[-1][key] = value
    elif name == "SETITEMS":
        items = _popped(stack)
        stack[-1].update(zip(items[::2], items[1::2], strict=True))
    elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
        memo[int(argument)] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[int(argument)])
    elif name == "BUILD":
        stack[-2:] = [Opaque(stack[-1])]
    elif name in _CALLS:
        if _CALLS[name]:
            del stack[-_CALLS[name] :]
        stack.append(Opaque())
    elif name not in _NOTHING:
        raise NotPlain(f"operation {name}")


def _popped(stack: list[Any]) -> list[Any]:
    """Take everything above the last mark off the stack, and the mark."""
    at = len(stack) - 1 - next(k for k, item in enumerate(reversed(stack)) if item is _MARK)
    items = stack[at + 1 :]
    del stack[at:]
    return items


def object_array(content: bytes) -> np.ndarray:
    """Return a pickled NumPy array of objects, as far as these are plain values.

    The state of such an array is (version, shape, type, order in memory, list row by row). Raises
    NotPlain for any other pickle.
    """
    found = plain_values(content)
    state = found.state if isinstance(found, Opaque) else None
    if not (isinstance(state, tuple) and len(state) == 5 and isinstance(state[4], list)):
        raise NotPlain("not an array of objects")
    flat = np.empty(len(state[4]), dtype=object)
    flat[:] = [None if isinstance(value, Opaque) else value for value in state[4]]
    return flat.reshape(state[1])

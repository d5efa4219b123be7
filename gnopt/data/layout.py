"""Find inputs and targets of each group of rows by the names that others give their arrays.

Keras writes x_train, y_train, x_test, y_test; MATLAB's examples XTrain, YTrain; others
train_images, train_labels, or groups train and test with images and labels in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_GROUPS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_INPUTS = ("x", "inputs", "input", "images", "image", "features", "data")
_TARGETS = ("y", "targets", "target", "labels", "label", "t")
_SILENT = {"set", "orig", "s", "dataset"}  # parts of names that say nothing
_JOINED = re.compile(r"(x|y)(train|valid|val|test)|(train|valid|val|test)(x|y)")


@dataclass(frozen=True)
class Pair:
    """Names of the inputs and of the targets of a group of rows."""

    inputs: str
    targets: str | None = None

    def __str__(self) -> str:
        return f"{self.inputs}, {self.targets}" if self.targets else self.inputs


def find_layout(names: Iterable[str]) -> dict[str, Pair]:
    """Return the arrays of the groups train, validation and test, as far as names tell.

    >>> find_layout(["x_train", "y_train", "x_test", "y_test"])["test"]
    Pair(inputs='x_test', targets='y_test')
    >>> sorted(find_layout(["trainX", "trainY", "info"]))
    ['train']
    >>> find_layout(["x", "y"])
    {}
    """
    inputs: dict[str, list[tuple[int, str]]] = {}
    targets: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        parts = _parts(name)
        groups = {_GROUPS[part] for part in parts if part in _GROUPS}
        rest = [part for part in parts if part not in _GROUPS and part not in _SILENT]
        if len(groups) != 1 or not rest:
            continue
        group = groups.pop()
        for known, found in ((_INPUTS, inputs), (_TARGETS, targets)):
            if all(part in known for part in rest):
                rank = min(known.index(part) for part in rest)
                found.setdefault(group, []).append((rank, name))
    return {
        group: Pair(min(inputs[group])[1], min(targets[group])[1] if group in targets else None)
        for group in ("train", "validation", "test")
        if group in inputs
    }


def _parts(name: str) -> list[str]:
    """Return the words of a name: x_train, XTrain, trainX and train/x are all x and train."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    words = re.findall(r"[a-z]+|[0-9]+", spaced.lower())
    parts: list[str] = []
    for word in words:
        joined = _JOINED.fullmatch(word)
        parts += [part for part in joined.groups() if part] if joined else [word]
    return parts

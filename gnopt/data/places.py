"""Where inputs, targets and weights of each group of rows stand in an HDF5 file."""

from __future__ import annotations

from dataclasses import dataclass

import h5py

from gnopt.data.hdf5 import array_paths, holds, is_group
from gnopt.data.layout import Pair, find_layout
from gnopt.data.options import DataSettings
from gnopt.data.views import default_signal

GROUPS = ("train", "validation", "test")
ALL = "all"  # the split of a new file without groups


@dataclass(frozen=True)
class Places:
    """Paths of datasets by group of rows; "" is the top of the file.

    Names that the settings give stand at the top or in groups. Where nothing is called by the
    default name x, names such as x_train and y_train tell the groups (``pairs``), or the default
    signal of a NeXus file is the inputs.
    """

    handle: h5py.File
    inputs: str
    targets: str  # "inputs" for none
    weights: str  # "" for none
    group: str  # what rows belong together by; "" for nothing
    pairs: dict[str, Pair]
    by_signal: bool = False  # the inputs are what a file of NeXus is about

    @classmethod
    def find(cls, handle: h5py.File, settings: DataSettings) -> Places:
        """Return the places that the settings name in a file."""
        given = (settings.inputs, settings.targets, settings.weights, settings.group)
        names = [name.strip("/") for name in given]
        if is_group(handle, "train"):
            names = [name.removeprefix("train/") for name in names]
        inputs, targets, weights, group = names
        pairs: dict[str, Pair] = {}
        by_default = inputs == "x" and targets in ("inputs", "y") and not (weights or group)
        nameless = inputs == "x" and not any(holds(handle, f"{p}x") for p in _prefixes())
        if by_default and nameless:
            pairs = find_layout(array_paths(handle))
        if targets == "y" and not all(pair.targets for pair in pairs.values()):
            pairs = {}
        signal = default_signal(handle) if nameless and not pairs else None
        return cls(handle, signal or inputs, targets, weights, group, pairs, signal is not None)

    @property
    def training(self) -> str:
        """The group of the training rows."""
        if "train" in self.pairs:
            return "train"
        at_top = holds(self.handle, self.inputs) and not self.has_inputs("train")
        return "train" if is_group(self.handle, "train") and not at_top else ""

    @property
    def groups(self) -> str | None:
        """The path of what training rows belong together by, or None."""
        prefix = f"{self.training}/" if self.training else ""
        return prefix + self.group if self.group else None

    def has(self, group: str) -> bool:
        """Return whether the file has this group of rows."""
        return group in self.pairs or (not self.pairs and is_group(self.handle, group))

    def has_inputs(self, group: str) -> bool:
        """Return whether the file has inputs of a group."""
        return group in self.pairs or holds(self.handle, f"{group}/{self.inputs}")

    def has_targets(self, group: str) -> bool:
        """Return whether the file has targets of a group, or none are needed."""
        if self.targets == "inputs" or group in self.pairs:
            return True
        return holds(self.handle, f"{group}/{self.targets}")

    def of(self, group: str) -> tuple[str, str | None, str | None]:
        """Return the paths of the inputs, the targets and the weights of a group."""
        pair = self.pairs.get(group)
        if pair is not None:
            return pair.inputs, None if self.targets == "inputs" else pair.targets, None
        prefix = f"{group}/" if group else ""
        targets = None if self.targets == "inputs" else prefix + self.targets
        return prefix + self.inputs, targets, prefix + self.weights if self.weights else None

    def of_new(self) -> dict[str, str]:
        """Return {name of a split: group} of a file whose rows are all used: the groups with all
        that is needed, or the top of the file.

        Rows at the top beside groups are the training rows.
        """
        known = [group for group in GROUPS if self.has(group) and self.has_inputs(group)]
        whole = [group for group in known if self.has_targets(group)]
        groups = {group: group for group in whole or known}
        if self.training == "" and holds(self.handle, self.inputs):
            return {"train": "", **groups} if groups else {ALL: ""}
        return groups or {ALL: ""}

    def told(self) -> list[str]:
        """Return a line on groups that were told by the names of datasets."""
        if self.by_signal:
            return [f"inputs: {self.inputs}, the default signal of a NeXus file"]
        if not self.pairs:
            return []
        found = (f"{group}: {pair}" for group, pair in self.pairs.items())
        return [f"groups of rows by the names of the datasets: {'; '.join(found)}"]


def _prefixes() -> list[str]:
    return ["", *(f"{group}/" for group in GROUPS)]

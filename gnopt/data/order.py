"""The order of training examples: shuffled blocks of rows, and shuffled rows inside groups of
blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gnopt.rng import generator

GROUP_BYTES = 64 * 2**20  # rows shuffled together; a set up to this size is fully shuffled
BLOCK_BYTES = 2**20  # rows read in one piece from a set larger than that


@dataclass(frozen=True)
class Group:
    """Rows visited together: stream positions ``first .. first + rows``, from these blocks
    (sorted).
    """

    epoch: int
    index: int
    first: int
    rows: int
    blocks: np.ndarray

    def covers(self, position: int) -> bool:
        """Whether the stream position lies in this group."""
        return self.first <= position < self.first + self.rows


@dataclass(frozen=True)
class Order:
    """A pure function from positions of the endless stream to rows; epoch e is e·rows ..
    (e+1)·rows.

    An epoch visits the blocks (``block`` rows each, the last may be shorter) in shuffled order,
    ``group`` blocks at a time, and the rows of a group in shuffled order: with one group, a uniform
    permutation of all rows.

    >>> order = Order(seed=0, rows=10, block=2, group=3)
    >>> first, second = order.at(0), order.at(6)  # three blocks, then the other two
    >>> first.rows, second.rows, order.at(10).epoch
    (6, 4, 1)
    >>> visited = [*order.row_numbers(first), *order.row_numbers(second)]
    >>> sorted(visited) == list(range(10))
    True
    """

    seed: int
    rows: int
    block: int
    group: int

    @property
    def blocks(self) -> int:
        return -(-self.rows // self.block)

    def bounds(self, block: int) -> tuple[int, int]:
        """The rows of a block."""
        return block * self.block, min((block + 1) * self.block, self.rows)

    def at(self, position: int) -> Group:
        """Return the group that holds stream position ``position``."""
        epoch, offset = divmod(position, self.rows)
        blocks, starts = _epoch(self, epoch)
        index = int(np.searchsorted(starts, offset, side="right")) - 1
        stop = int(starts[index + 1]) if index + 1 < len(starts) else self.rows
        chosen = np.sort(blocks[index * self.group : (index + 1) * self.group])
        return Group(
            epoch, index, epoch * self.rows + int(starts[index]), stop - int(starts[index]), chosen
        )

    def shuffle(self, group: Group) -> np.ndarray:
        """Return the order in which the rows of the group, concatenated in file order, are
        visited.
        """
        return generator(self.seed, "rows", group.epoch, group.index).permutation(group.rows)

    def row_numbers(self, group: Group) -> np.ndarray:
        """Return the rows of the group in the order in which they are visited."""
        order = self.shuffle(group)
        if group.rows == self.rows:
            return order
        rows = np.concatenate([np.arange(*self.bounds(int(b))) for b in group.blocks])
        return np.take(rows, order)


@lru_cache(maxsize=4)
def _epoch(order: Order, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The shuffled blocks of an epoch, and the offset at which each group of them starts."""
    blocks = generator(order.seed, "blocks", epoch).permutation(order.blocks)
    sizes = np.where(
        blocks == order.blocks - 1, order.rows - (order.blocks - 1) * order.block, order.block
    )
    ends = np.cumsum(sizes)
    return blocks, np.concatenate([[0], ends[order.group - 1 : -1 : order.group]])


def choose_order(
    seed: int, rows: int, row_bytes: int, chunk: int, group_bytes: int = GROUP_BYTES
) -> Order:
    """Choose block and group for ``rows`` rows stored in HDF5 chunks of ``chunk`` rows.

    Blocks are whole chunks, near ``BLOCK_BYTES`` or a sixteenth of a group. The choice depends on
    the file and ``group_bytes`` alone, never on how much memory is free, so that every machine sees
    the same batches.
    """
    group_rows = max(1, group_bytes // row_bytes)
    if rows <= group_rows:
        return Order(seed, rows, rows, 1)
    wanted = max(1, min(BLOCK_BYTES, group_bytes // 16) // row_bytes)
    block = min(chunk * max(1, wanted // chunk), group_rows)
    return Order(seed, rows, block, max(1, group_rows // block))

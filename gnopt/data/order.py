"""The order of training examples: blocks of rows are shuffled, and rows within groups of blocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gnopt.rng import generator

GROUP_BYTES = 64 * 2**20  # of rows shuffled together; a smaller data set is shuffled as a whole
BLOCK_BYTES = 2**20  # of rows that are read in one piece from a larger data set


@dataclass(frozen=True)
class Group:
    """Rows visited together, at the stream positions ``first .. first + rows``."""

    epoch: int
    index: int  # of the group in its epoch
    first: int
    rows: int
    blocks: np.ndarray  # numbers of the blocks that hold the rows, sorted

    def covers(self, position: int) -> bool:
        """Return whether a position of the stream lies in this group."""
        return self.first <= position < self.first + self.rows


@dataclass(frozen=True)
class Order:
    """A pure function from positions of the endless stream to rows.

    Epoch e covers the positions e·rows .. (e+1)·rows. It visits the blocks in shuffled order, some
    blocks (a group) at a time, and the rows of a group in shuffled order. If one group holds all
    rows, the order is a uniform permutation.

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
    block: int  # rows of a block; the last block may be shorter
    group: int  # blocks of a group

    @property
    def blocks(self) -> int:
        return -(-self.rows // self.block)

    def bounds(self, block: int) -> tuple[int, int]:
        """Return the first row of a block, and the row after its last."""
        return block * self.block, min((block + 1) * self.block, self.rows)

    def at(self, position: int) -> Group:
        """Return the group that holds ``position`` of the stream."""
        epoch, offset = divmod(position, self.rows)
        blocks, starts = _epoch(self, epoch)
        index = int(np.searchsorted(starts, offset, side="right")) - 1
        stop = int(starts[index + 1]) if index + 1 < len(starts) else self.rows
        chosen = np.sort(blocks[index * self.group : (index + 1) * self.group])
        return Group(
            epoch, index, epoch * self.rows + int(starts[index]), stop - int(starts[index]), chosen
        )

    def shuffle(self, group: Group) -> np.ndarray:
        """Return the order in which to visit the rows of a group, numbered in file order."""
        return generator(self.seed, "rows", group.epoch, group.index).permutation(group.rows)

    def row_numbers(self, group: Group) -> np.ndarray:
        """Return the row numbers of a group in the order of the visit."""
        order = self.shuffle(group)
        if group.rows == self.rows:
            return order
        rows = np.concatenate([np.arange(*self.bounds(int(b))) for b in group.blocks])
        return np.take(rows, order)


@lru_cache(maxsize=4)
def _epoch(order: Order, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the shuffled blocks of an epoch, and the offset at which each group starts."""
    blocks = generator(order.seed, "blocks", epoch).permutation(order.blocks)
    sizes = np.where(
        blocks == order.blocks - 1, order.rows - (order.blocks - 1) * order.block, order.block
    )
    ends = np.cumsum(sizes)
    return blocks, np.concatenate([[0], ends[order.group - 1 : -1 : order.group]])


def choose_order(
    seed: int, rows: int, row_bytes: int, chunk: int, group_bytes: int = GROUP_BYTES
) -> Order:
    """Choose the sizes of blocks and groups for rows stored in HDF5 chunks of ``chunk`` rows.

    A block is a number of whole chunks, of about ``BLOCK_BYTES`` or a sixteenth of a group. The
    choice depends on the file and ``group_bytes``, never on free memory, so that every machine sees
    the same batches.
    """
    group_rows = max(1, group_bytes // row_bytes)
    if rows <= group_rows:
        return Order(seed, rows, rows, 1)
    wanted = max(1, min(BLOCK_BYTES, group_bytes // 16) // row_bytes)
    block = min(chunk * max(1, wanted // chunk), group_rows)
    return Order(seed, rows, block, max(1, group_rows // block))

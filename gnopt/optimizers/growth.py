"""When to enlarge the batch: when the next batch takes back too much of the decrease that the last
one promised.

A step δ fitted on one batch expects the slope g·δ < 0 to vanish at its end. On the next,
independent batch the slope g'·δ is positive by as much as δ had fitted the noise of the first. The
share that is taken back,

    noise = g'·δ / (−g·δ),

averaged over updates, is about the noise's share of the preconditioned gradient; g'·δ is computed
anyway for the quadratic model. Above ``growth_noise`` the batch grows by ``growth_rate`` per
update, up to ``growth_limit`` times its first size, or further where more rows cost little
(``cheap_rows``). A batch of more than half of the data becomes all of the data: an update then
minimises the objective itself, and its loss can be compared with the next one's.
"""

from __future__ import annotations

from dataclasses import dataclass

from gnopt.options import Settings, option

MEMORY = 0.9  # of the moving average of the noise


@dataclass(frozen=True, kw_only=True)
class GrowthSettings(Settings):
    """When and how far the batch grows."""

    growth_limit: float = option(
        4.0,
        "the batch may grow to this multiple of its first size, or to as many rows as cost little; "
        "1 = batches of training.batch_size, whatever they cost",
        low=1.0,
    )
    growth_noise: float = option(
        0.05,
        "share of the expected decrease that the next batch takes back, averaged, "
        "above which the batch grows",
        low=0.0,
    )
    growth_rate: float = option(1.05, "factor on the batch per update while it grows", low=1.0)


@dataclass
class GrowthState:
    """Multiple of the batch size, averaged noise, and the decrease that the last step promised."""

    multiple: float = 1.0
    noise: float = 0.0
    gain: float = 0.0

    def observe(self, settings: GrowthSettings, slope: float, available: int) -> None:
        """Take note of the slope along the last step on the new batch; called once an update.

        ``available`` rows are the most that any batch can hold.
        """
        if self.gain > 0.0:
            share = min(max(slope / self.gain, -1.0), 2.0)
            self.noise += (1.0 - MEMORY) * (share - self.noise)
        if self.noise > settings.growth_noise:
            self.multiple = min(self.multiple * settings.growth_rate, float(available))


def grown(rows: float, available: int) -> int:
    """Return the rows of a batch that is to hold ``rows`` of the ``available`` ones: all of them
    where it would hold more than half.
    """
    return available if 2 * rows > available else round(rows)

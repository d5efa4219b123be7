"""The benchmark: what an update costs, phase by phase, beside the least it could cost
(``bin/benchmark``).

Everything is measured in interleaved rounds, so that whatever else a machine does meets all methods
alike, and every time is also given as a ratio to the time that its floating-point operations need
at the rate of matrix products measured in the same moment.
"""

"""gnopt beside other programs and beside the least work that its methods could do: bin/benchmark.

``gnopt bench`` times updates on any problem. This package goes further on two fixed networks: it
compares with torch, BackPACK and kfac-jax, times runs to given objectives, and draws how costs
grow. It lies outside gnopt because it needs a checkout, for configurations and data.

Everything is measured in interleaved rounds, so that whatever else a machine does meets all methods
alike. Every time is also given as a ratio to the time that its floating-point operations need at
the rate of matrix products measured in the same moment.
"""

"""The curvature itself: factors, exact blocks, spectra, alignment of updates, theorem, self-test
and export.

What ``gnopt inspect-curvature`` shows. Everything here looks at one network on one fixed sample,
the first rows of the training data, and changes nothing. May import everything except ``plots`` and
``cli``.
"""

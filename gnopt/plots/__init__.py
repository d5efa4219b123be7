"""Draw figures of runs and comparisons with matplotlib (the extra ``plot``), one figure a module.

Every figure is written to a file; no window is ever opened.

Reading order: ``figure``, ``thinning`` → ``run_curves``, ``steps``, ``reconstructions`` →
``comparison``, ``heatmap`` → ``report`` → ``inspect_alignment``, ``inspect_density``,
``inspect_spectrum``, ``inspect_surface`` → ``inspection``.
"""

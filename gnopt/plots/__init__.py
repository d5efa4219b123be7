"""Figures of runs and of comparisons, drawn with matplotlib (the extra ``plot``), one file each.

May import everything except ``cli``. No window is ever opened: every figure is a file.
"""

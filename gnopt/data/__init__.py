"""The data room: reading HDF5 files as streams of rows, and making, importing and describing such
files.

``source.open_data`` is what training uses; everything here is host NumPy and imports only gnopt's
``errors``, ``options`` and ``rng``.
"""

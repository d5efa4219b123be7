"""Replaced, with its submodules, by the import of the double under the name ``cupy``."""

import cupy  # noqa: F401

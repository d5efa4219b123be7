"""Write networks for other programs: one file a format, which the suffix of the output chooses.

A new file that defines ``FORMAT`` is found by itself.

Reading order: ``format`` → ``onnx_graph`` → ``onnx_trace``, ``columns``; of source files
``source`` → ``procedure``.
"""

from gnopt.export.format import Format, export, format_of, formats

__all__ = ["Format", "export", "format_of", "formats"]

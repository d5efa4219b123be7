"""The engine: arrays, activations, losses, initialisers and the network's passes.

``arrays`` is the one seam between NumPy and CuPy. ``activations`` and ``losses`` supply local facts
(f, f', f''; value, gradient, Gauss-Newton matrix of the output) and know no method.
``predictions`` are the records that metrics score. ``weighted`` multiplies what a loss returns by
the weights of rows. ``network`` holds the forward, backward and R-forward passes.

Reading order: ``arrays`` → ``initializers`` → ``onnx_form``, ``source_form`` → ``predictions`` →
``activations`` → ``losses`` → ``weighted`` → ``network``.
"""

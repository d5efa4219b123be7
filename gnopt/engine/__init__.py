"""The engine: array module, activations, losses, initialisers and the network's passes.

``backend`` is the one seam between NumPy and CuPy; ``network`` holds the forward, backward and
R-forward passes; ``activations`` and ``losses`` supply local facts (f, f', f''; value, gradient,
Gauss-Newton) and know no method.

Reading order: ``arrays`` → ``initializers`` → ``onnx_form`` → ``activations`` → ``losses`` →
``network``.
"""

"""From a checked configuration to a finished run directory: set-up, the loop, evaluation,
checkpoints, prediction and export.

Reading order: ``files`` → ``tree`` → ``checkpoint`` → ``tables`` → ``rundir`` → ``setup`` →
``evaluate`` → ``signals`` → ``loop`` → ``start`` → ``load`` → ``predict``, ``export``, ``onnx``.
Nothing here prints: the loop tells a `Reporter` what happened. May import everything except
``cli``.
"""

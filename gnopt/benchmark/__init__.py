"""The least floating-point work of an update: ``flops`` has a formula for each product, ``floors``
the formulas that an optimizer's settings ask for.

Reading order: ``flops`` → ``floors``.
"""

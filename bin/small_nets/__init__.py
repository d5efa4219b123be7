"""Small nets on noiseless targets: Levenberg-Marquardt beside SciPy's MINPACK, L-BFGS and
scikit-learn, in the same seconds of the processor.

Reading order: ``problems`` → ``contestants``.
"""

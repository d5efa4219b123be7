"""Look at the curvature of a network, for ``gnopt inspect-curvature``.

An inspection takes one network on one fixed sample, the first rows of its training data. It reports
factors, exact blocks, spectra, the alignment of updates and the theorem on block Hessians, tests
the user's own parts, and exports the matrices. It changes nothing.

Reading order: ``subject`` → ``spectrum`` → ``blocks`` → ``factors`` → ``dense`` → ``lanczos`` →
``density`` → ``agreement`` → ``definite``, ``rank``, ``surface`` → ``alignment`` → ``summary`` →
``differences`` → ``check_activation``, ``check_loss``, ``check_network`` → ``check`` → ``choices``
→ ``matrix_file`` → ``inspect`` → ``finding_files``, ``finding_texts``.
"""

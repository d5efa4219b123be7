"""The battery: random problems that a method must train without tuning: ``bin/reproduce --only
battery``.

A problem is drawn from a seed and a number, so that every machine makes the same one: a network,
a loss, rows and a batch size. Each method trains it through the code of ``gnopt train`` for the
same seconds of the processor, and Adam does so at several rates. It lies outside gnopt because it
measures gnopt and belongs to a checkout.

Reading order: ``problems`` → ``runs`` → ``pool`` → ``table`` → ``verdicts`` → ``report`` →
``session``.
"""

"""Tables as people have them: read from any format, and encoded as the numbers a network takes.

Reading order: ``form`` (what a reader returns) → ``cells`` (what single cells mean) → ``formats``
(one reader for each kind of file) → ``reading`` (open a file) → ``kinds`` (numbers, dates,
categories) → ``target`` → ``encoding`` (all columns together).
"""

"""Tables as people have them: read from any format, and encoded as the numbers a network takes.

Reading order: `form` (how a file is written), `formats` (one reader for each kind of file),
`reading` (open a file), `cells` (what single cells mean), `kinds` (numbers, dates, categories),
`target`, `encoding` (all columns together) and `opening` (the data file that training opens).
"""

"""`swath models`: what models there are, what they are, and whether their files are what they should be."""

"""People who asked to be forgotten: removed once, kept out of every later load, and searched for to prove it."""

"""Data sets of texts, as numbers of tokens."""

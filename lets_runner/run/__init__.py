"""Run directories: what is written down of a training, kept whole and read again."""

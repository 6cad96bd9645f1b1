"""The tokens that every vocabulary of sentences begins with, by number."""

PAD, EOS, UNKNOWN = 0, 1, 2
SPECIAL = ("<pad>", "</s>", "<unk>")  # as they are written; the end of a sentence also starts a translation
IGNORED = -100  # in place of a target that does not count; torch's cross entropy leaves it out

"""Finished runs measured again: on other parts, other data, spoiled images; accuracy, and how far to trust it."""

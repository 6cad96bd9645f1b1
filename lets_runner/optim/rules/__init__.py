"""Radius rules, one a file, and what they share."""

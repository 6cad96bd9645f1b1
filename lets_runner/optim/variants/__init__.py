"""Every SAM variant but SAM itself, one a file."""

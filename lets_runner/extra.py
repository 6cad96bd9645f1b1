"""What is said where a library is missing that one of this package's extras brings."""


def missing(package: str, extra: str) -> ValueError:
    """The error that says which extra to install."""
    return ValueError(f"{package} is not installed; pip install 'lets_runner[{extra}]'")

"""What an architecture for images asks of an example."""


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width; raises ValueError where an example is no image."""
    if len(shape) != 3:
        raise ValueError(f"this model takes images, and an example is of the shape {tuple(shape)}: take model=mlp")
    channels, height, width = shape
    return channels, height, width

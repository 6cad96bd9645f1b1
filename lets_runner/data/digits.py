"""The 1,797 handwritten digits of 8×8 pixels that come with scikit-learn: real data with nothing to download.

Alpaydin & Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998 (its test part).
"""

import torch

from lets_runner.data.images import ImageData
from lets_runner.data.splits import Examples, stratified

TEST_FRACTION = 0.3
BRIGHTEST = 16


class Digits(ImageData):
    """Ten classes; 30 % of every class, always the same images, are the test set. See `ImageData` for the settings."""

    classes = 10
    shape = (1, 8, 8)
    mean = (0.3058,)  # of the training part
    std = (0.3761,)
    class_names = tuple(map(str, range(10)))

    def read(self) -> tuple[Examples, Examples]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = torch.from_numpy(digits.images).unsqueeze(1) * 255 / BRIGHTEST
        examples = Examples(pixels.round().to(torch.uint8), torch.from_numpy(digits.target).long())
        train, test = stratified(examples.targets, TEST_FRACTION, seed=0)
        return examples[train], examples[test]

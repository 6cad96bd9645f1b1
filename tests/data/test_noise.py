"""Label noise: how many are wrong, and which way."""

import numpy as np
import pytest
import torch

from lets_runner.data import CIFAR10, CIFAR100
from lets_runner.data.noise import confused_labels, noisy_labels

NAMES10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SUPERCLASSES = """
    beaver dolphin otter seal whale, aquarium_fish flatfish ray shark trout, orchid poppy rose sunflower tulip,
    bottle bowl can cup plate, apple mushroom orange pear sweet_pepper, clock keyboard lamp telephone television,
    bed chair couch table wardrobe, bee beetle butterfly caterpillar cockroach, bear leopard lion tiger wolf,
    bridge castle house road skyscraper, cloud forest mountain plain sea, camel cattle chimpanzee elephant kangaroo,
    fox porcupine possum raccoon skunk, crab lobster snail spider worm, baby boy girl man woman,
    crocodile dinosaur lizard snake turtle, hamster mouse rabbit shrew squirrel,
    maple_tree oak_tree palm_tree pine_tree willow_tree, bicycle bus motorcycle pickup_truck train,
    lawn_mower rocket streetcar tank tractor
"""


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 1.0])
def test_symmetric_noise_makes_exactly_its_share_wrong_and_spreads_it(share):
    labels = torch.arange(10_000) % 10
    noisy = noisy_labels(labels, share, classes=10, seed=0)
    wrong = noisy != labels
    assert wrong.sum() == round(share * 10_000)
    assert noisy.min() >= 0
    assert noisy.max() < 10
    shifts = ((noisy - labels) % 10)[wrong].bincount(minlength=10)[1:].numpy()
    np.testing.assert_allclose(shifts, share * 10_000 / 9, rtol=0.25)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.45, 1.0])
def test_asymmetric_noise_takes_exactly_its_share_of_every_source_class(share):
    counts = {0: 50, 1: 31, 2: 7, 3: 12}
    labels = torch.tensor([label for label, count in counts.items() for _ in range(count)])
    noisy = confused_labels(labels, share, {0: 2, 1: 3, 3: 1}, seed=0)
    moved = {0: 2, 1: 3, 2: 2, 3: 1}
    for label, count in counts.items():
        wrong = noisy[labels == label] != label
        assert wrong.sum() == (0 if label == 2 else round(share * count))
        assert set(noisy[labels == label][wrong].tolist()) <= {moved[label]}
    assert torch.equal(noisy, confused_labels(labels, share, {0: 2, 1: 3, 3: 1}, seed=0))
    if 0 < share < 1:
        assert not torch.equal(noisy, confused_labels(labels, share, {0: 2, 1: 3, 3: 1}, seed=1))


def test_cifar10_confuses_what_looks_alike():
    named = {NAMES10[source]: NAMES10[target] for source, target in CIFAR10.confusions.items()}
    assert named == {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}


def test_cifar100_goes_round_every_superclass():
    """Classes are numbered by the alphabet; a class follows the one before it in its superclass."""
    groups = [group.split() for group in SUPERCLASSES.split(",")]
    number = {name: index for index, name in enumerate(sorted(name for group in groups for name in group))}
    assert len(number) == 100
    expected = {}
    for group in groups:
        for place, name in enumerate(group):
            expected[number[name]] = number[group[(place + 1) % 5]]
    assert expected == CIFAR100.confusions

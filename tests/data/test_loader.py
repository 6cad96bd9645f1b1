"""Batches from the device: shuffling, augmentation, normalisation."""

import numpy as np
import pytest
import torch
from torch import Generator

from lets_runner.data import Augmentation, DeviceLoader, Examples, Share

CPU = torch.device("cpu")


def examples(count=20, channels=3, size=8):
    generator = Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=generator)
    return Examples(images, torch.arange(count))


def loader(count=20, batch_size=6, seed=(0, 0), **settings):
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    return DeviceLoader(examples(count), batch_size=batch_size, mean=mean, std=std, seed=seed, device=CPU, **settings)


def normalised(images):
    """By the definition, an image at a time."""
    channels = [(images[:, c].double() / 255 - m) / s for c, (m, s) in enumerate([(0.1, 0.5), (0.2, 0.6), (0.3, 0.7)])]
    return torch.stack(channels, 1).float()


def test_an_epoch_shows_every_example_once_and_the_next_one_in_another_order():
    data = loader(count=18)
    assert len(data) == 3
    epochs = [
        [label for number in range(start, start + 3) for label in data.batch(number)[1].tolist()] for start in (0, 3)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(18))
    assert epochs[0] != epochs[1]


def test_a_batch_depends_on_seed_and_number_alone():
    augmentation = Augmentation(crop=2, flip=True, cutout=3)
    first, second = loader(augmentation=augmentation), loader(augmentation=augmentation)
    late = [second.batch(number) for number in (7, 2)]
    for number, (images, labels) in zip((7, 2), late, strict=True):
        again = first.batch(number)
        assert torch.equal(again[0], images)
        assert torch.equal(again[1], labels)
    other = loader(seed=(0, 1), augmentation=augmentation).batch(7)
    assert not torch.equal(other[1], late[0][1])


def test_images_belong_to_their_labels_and_are_normalised():
    data = loader()
    images, labels = data.batch(1)
    torch.testing.assert_close(images, normalised(examples().images[labels]))
    in_order = list(data.in_order(7))
    assert torch.cat([labels for _, labels in in_order]).tolist() == list(range(20))
    torch.testing.assert_close(torch.cat([images for images, _ in in_order]), normalised(examples().images))


def test_order_is_not_augmented():
    data = loader(augmentation=Augmentation(crop=2, flip=True, cutout=4))
    torch.testing.assert_close(next(iter(data.in_order(20)))[0], normalised(examples().images))


def shifted(image, down, right):
    """The window of an image in a black frame, in NumPy: the definition of a random crop."""
    size = image.shape[-1]
    frame = np.pad(image, ((0, 0), (2, 2), (2, 2)))
    return frame[:, down : down + size, right : right + size]


def test_crop_and_flip_give_windows_of_the_image_and_all_of_them():
    augmentation = Augmentation(crop=2, flip=True)
    images = examples(1).images
    index = torch.zeros(2000, dtype=torch.int64)
    picked = augmentation.pick(augmentation.padded(images), index, Generator().manual_seed(0)).numpy()
    possible = {
        shifted(version, down, right).tobytes(): (flip, down, right)
        for flip, version in enumerate((images[0].numpy(), images[0].numpy()[..., ::-1].copy()))
        for down in range(5)
        for right in range(5)
    }
    assert len(possible) == 50
    seen = [possible[image.tobytes()] for image in picked]  # KeyError: no window of this image
    assert len(set(seen)) == 50
    assert np.mean([flip for flip, _, _ in seen]) == pytest.approx(0.5, abs=0.05)


def test_cutout_blanks_a_square_that_may_stick_out():
    images = torch.ones(500, 2, 8, 8)
    blanked = Augmentation(cutout=4).blank(images, Generator().manual_seed(0))
    holes = blanked[:, 0] == 0
    assert torch.equal(blanked[:, 0], blanked[:, 1])
    sizes = set()
    for hole in holes.numpy():
        rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert hole.sum() == height * width
        assert (height == 4 or rows[0] == 0 or rows[-1] == 7) and (width == 4 or columns[0] == 0 or columns[-1] == 7)
        sizes.add((height, width))
    assert (4, 4) in sizes
    assert min(sizes) == (2, 2)
    assert max(sizes) == (4, 4)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_rows_of_all_processes_are_the_batch_of_one(size):
    settings = {"count": 23, "batch_size": 8, "augmentation": Augmentation(crop=2, flip=True, cutout=3)}
    whole, ranks = loader(**settings), [loader(share=Share(rank, size), **settings) for rank in range(size)]
    assert [len(rank) for rank in ranks] == [len(whole)] * size
    for number in (0, 5):
        shares = [rank.batch(number) for rank in ranks]
        assert [len(labels) for _, labels in shares] == [8 // size] * size
        for joined, part in zip(map(torch.cat, zip(*shares, strict=True)), whole.batch(number), strict=True):
            assert torch.equal(joined, part)
    pieces = [list(rank.in_order(4)) for rank in ranks]
    assert torch.cat([labels for rank in pieces for _, labels in rank]).tolist() == list(range(23))
    everything = torch.cat([images for rank in pieces for images, _ in rank])
    torch.testing.assert_close(everything, normalised(examples(23).images))
    assert len({len(rank) for rank in pieces}) == 1


@pytest.mark.parametrize("batch_size", [0, 21])
def test_refuses_a_batch_it_cannot_fill(batch_size):
    with pytest.raises(ValueError, match="20 examples"):
        loader(batch_size=batch_size)


def test_channels_last_changes_the_layout_alone():
    plain, last = loader().batch(0)[0], loader(channels_last=True).batch(0)[0]
    assert torch.equal(plain, last)
    assert last.is_contiguous(memory_format=torch.channels_last)

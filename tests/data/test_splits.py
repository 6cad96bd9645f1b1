"""Splits and label noise."""

import pytest
import torch

from lets_runner.data import Digits, Examples, ImageData
from lets_runner.data.splits import stratified


class Toy(ImageData):
    classes = 5
    shape = (1, 4, 4)
    mean, std = (0.5,), (0.2,)

    def read(self):
        labels = torch.arange(1000) % 5
        images = torch.arange(1000).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
        return Examples(images, labels), Examples(images[:50], labels[:50])


def test_stratified_holds_the_share_of_every_class():
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    kept, held = stratified(labels, 0.1, seed=0)
    assert labels[held].bincount().tolist() == [5, 3, 2]
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(100))
    assert torch.equal(held, stratified(labels, 0.1, seed=0)[1])
    assert not torch.equal(held, stratified(labels, 0.1, seed=1)[1])


def test_no_validation_is_possible():
    splits = Toy(val_fraction=0).splits()
    assert (len(splits.train), len(splits.val)) == (1000, 0)


def test_noise_spares_the_test_set_and_reaches_validation_unless_told_otherwise():
    clean, noisy = Toy().splits(), Toy(label_noise=0.4).splits()
    for part in ("train", "val"):
        before, after = getattr(clean, part), getattr(noisy, part)
        assert torch.equal(before.images, after.images)
        assert (before.labels != after.labels).float().mean().item() == pytest.approx(0.4, abs=0.01)
    assert torch.equal(clean.test.labels, noisy.test.labels)
    spared = Toy(label_noise=0.4, val_label_noise=0.0).splits()
    assert torch.equal(spared.val.labels, clean.val.labels)
    assert torch.equal(spared.train.labels, noisy.train.labels)


def test_asymmetric_noise_reaches_both_parts_and_follows_the_map():
    class Known(Toy):
        confusions = {0: 1, 3: 4}  # noqa: RUF012

    clean, noisy = Known().splits(), Known(label_noise=0.4, noise="asymmetric").splits()
    for part in ("train", "val"):
        before, after = getattr(clean, part).labels, getattr(noisy, part).labels
        wrong = before != after
        assert set(zip(before[wrong].tolist(), after[wrong].tolist(), strict=True)) == {(0, 1), (3, 4)}
        assert wrong.sum() == 2 * round(0.4 * len(before) / 5)
    assert torch.equal(clean.test.labels, noisy.test.labels)


@pytest.mark.parametrize(
    "settings",
    [
        {"val_fraction": 1.0},
        {"val_fraction": -0.1},
        {"label_noise": 1.1},
        {"val_label_noise": -1},
        {"noise": "some"},
        {"noise": "asymmetric"},  # the data set knows no confusions
        {"crop": -1},
        {"cutout": 1.5},
    ],
    ids=str,
)
def test_refuses_settings_out_of_range_by_name(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))}="):
        Toy(**settings)


def test_digits_are_all_there_and_split_without_overlap():
    splits = Digits().splits()
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [1132, 126, 539]
    everything = torch.cat([part.images.flatten(1) for part in (splits.train, splits.val, splits.test)])
    assert len(torch.unique(everything, dim=0)) == len(everything) == 1797
    pixels = torch.cat([splits.train.images, splits.val.images]).double() / 255
    assert pixels.mean().item() == pytest.approx(Digits.mean[0], abs=5e-4)
    assert pixels.std().item() == pytest.approx(Digits.std[0], abs=5e-4)
    assert splits.test.labels.bincount().tolist() == pytest.approx([53.9] * 10, abs=2)

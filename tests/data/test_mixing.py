"""mixup and CutMix against torchvision's transforms, and as functions of (seed, number) for any number of processes."""

import math

import numpy as np
import pytest
import torch
from conftest import write_imagenet
from torchvision.transforms import v2

from lets_runner.data import Augmentation, DeviceLoader, Examples, ImageNet, Share
from lets_runner.data.mixing import UNMIXED, Mixing, _box

CPU = torch.device("cpu")
CLASSES = 7


def examples(count=24):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 8, 10), dtype=torch.uint8, generator=generator)
    return Examples(images, torch.randint(0, CLASSES, (count,), generator=generator))


def loader(mixing=UNMIXED, seed=(0, 0), share=None, **augmentation):
    return DeviceLoader(
        examples(),
        batch_size=8,
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.6, 0.7),
        seed=seed,
        device=CPU,
        augmentation=Augmentation(**augmentation),
        mixing=mixing,
        share=share or Share(),
    )


def shares_of(soft, labels):
    """λ of a batch, from the rows whose two classes differ; and that all of them have the same."""
    others = labels.roll(1) != labels
    found = soft[others, labels[others]]
    assert len(found) > 2 and torch.allclose(found, found[0].expand_as(found), atol=1e-6)
    return found[0].item()


@pytest.mark.parametrize("number", [0, 3, 11])
def test_mixup_of_a_batch_is_torchvisions(number):
    plain, labels = loader(crop=1, flip=True, cutout=3).batch(number)
    mixed, soft = loader(Mixing(mixup=0.4, classes=CLASSES), crop=1, flip=True, cutout=3).batch(number)
    left = shares_of(soft, labels)
    theirs = v2.MixUp(alpha=0.4, num_classes=CLASSES)
    parameters = {"lam": left, "labels": labels, "batch_size": 8}
    torch.testing.assert_close(mixed, theirs.transform(plain, parameters), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(soft, theirs.transform(labels, parameters), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("number", [0, 3, 11, 12])
def test_cutmix_of_a_batch_is_torchvisions(number):
    plain, labels = loader().batch(number)
    mixing = Mixing(cutmix=1.0, classes=CLASSES)
    data = loader(mixing)
    mixed, soft = data.batch(number)
    changed = (mixed != plain).any(1).any(0)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else (0, 0, 0, 0)
    left = 1 - (box[2] - box[0]) * (box[3] - box[1]) / 80
    parameters = {"box": box, "lam_adjusted": left, "labels": labels, "batch_size": 8}
    theirs = v2.CutMix(alpha=1.0, num_classes=CLASSES)
    assert torch.equal(mixed, theirs.transform(plain, parameters))
    torch.testing.assert_close(soft, theirs.transform(labels, parameters))


def test_the_box_is_torchvisions(monkeypatch):
    """The same λ and the same middle give the same box."""
    cutmix = v2.CutMix(alpha=1.0, num_classes=CLASSES)
    for seed in range(30):
        left = np.random.default_rng(seed).random()
        rng = np.random.default_rng(seed)
        middle = np.random.default_rng(seed)
        y, x = int(middle.integers(9)), int(middle.integers(14))
        monkeypatch.setattr(cutmix, "_dist", type("Beta", (), {"sample": lambda self, shape, left=left: left})())
        drawn = iter([torch.tensor([x]), torch.tensor([y])])
        monkeypatch.setattr(torch, "randint", lambda *_, drawn=drawn, **__: next(drawn))
        expected = cutmix.make_params([torch.zeros(2, 3, 9, 14)])["box"]
        top, bottom, start, stop = _box(left, 9, 14, rng)
        assert (start, top, stop, bottom) == expected


def test_how_much_is_left_is_beta_distributed():
    mixing, labels = Mixing(mixup=0.2, classes=2), torch.tensor([0, 1])
    images = torch.zeros(2, 1, 2, 2)
    left = np.array([mixing(images, labels, seed)[1][0, 1].item() for seed in range(4000)])
    assert left.mean() == pytest.approx(0.5, abs=0.02)
    assert left.var() == pytest.approx(1 / (4 * (2 * 0.2 + 1)), abs=0.01)


def test_of_both_a_batch_gets_one_and_half_of_them_either():
    mixing = Mixing(mixup=1.0, cutmix=1.0, classes=2)
    images = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 16, 16)
    cut = [
        bool(((mixed == 0) | (mixed == 1)).all())
        for mixed in (mixing(images, torch.zeros(2).long(), s)[0] for s in range(400))
    ]
    assert np.mean(cut) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("mixing", [Mixing(0.3, 0.0, CLASSES), Mixing(0.0, 1.0, CLASSES)], ids=["mixup", "cutmix"])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_rows_of_all_processes_are_the_batch_of_one(mixing, size):
    settings = {"crop": 2, "flip": True, "cutout": 3}
    whole = loader(mixing, **settings)
    ranks = [loader(mixing, share=Share(rank, size), **settings) for rank in range(size)]
    for number in (0, 5):
        parts = [rank.batch(number) for rank in ranks]
        for joined, expected in zip(map(torch.cat, zip(*parts, strict=True)), whole.batch(number), strict=True):
            assert torch.equal(joined, expected)
    assert not torch.equal(loader(mixing, (0, 1), **settings).batch(0)[0], whole.batch(0)[0])
    again = loader(mixing, **settings)
    again.batch(9)
    assert torch.equal(again.batch(5)[0], whole.batch(5)[0])  # of the number alone


def test_images_in_files_are_mixed_alike_by_any_number_of_processes(tmp_path):
    write_imagenet(tmp_path, train=8)

    def batches(rank=0, size=1, **settings):
        data = ImageNet(str(tmp_path), classes=3, size=16, workers=0, **settings)
        form = {"batch_size": 8, "seed": (0, 0), "device": CPU, "augmented": True, "share": Share(rank, size)}
        loader = data.loader(data.splits().train, **form)
        return [loader.batch(number) for number in (0, 3)]

    plain, whole = batches(), batches(mixup=0.4)
    halves = [batches(rank, 2, mixup=0.4) for rank in range(2)]
    for place, (images, soft) in enumerate(whole):
        assert torch.equal(torch.cat([half[place][0] for half in halves]), images)
        assert torch.equal(torch.cat([half[place][1] for half in halves]), soft)
        left = shares_of(soft, plain[place][1])
        expected = plain[place][0] * left + plain[place][0].roll(1, 0) * (1 - left)
        torch.testing.assert_close(images, expected, rtol=1e-4, atol=1e-4)


def test_what_is_measured_is_not_mixed():
    for images, labels in loader(Mixing(1.0, 1.0, CLASSES)).in_order(24):
        assert labels.dtype == torch.int64 and labels.shape == (24,)
        assert torch.equal(images, next(iter(loader().in_order(24)))[0])


@pytest.mark.parametrize("settings", [{"mixup": -0.1}, {"cutmix": math.inf}])
def test_refuses(settings):
    with pytest.raises(ValueError, match=rf"{next(iter(settings))}=.*: must be at least 0"):
        Mixing(**settings)

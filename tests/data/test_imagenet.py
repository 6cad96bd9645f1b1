"""ImageNet's folders: what is read, and what is refused."""

import os
import shutil

import pytest
import torch
from conftest import write_imagenet
from PIL import Image

from lets_runner.data import ImageNet

CPU = torch.device("cpu")


@pytest.fixture
def root(tmp_path):
    return write_imagenet(tmp_path)


def data(root, **settings):
    return ImageNet(str(root), **{"classes": 3, "size": 14, "workers": 0, **settings})


def test_a_class_is_a_folder_and_validation_is_a_part_of_train(root):
    (root / "train" / "notes.txt").write_text("not a class")
    (root / "train" / "n01" / "notes.txt").write_text("not an image")
    (root / "train" / ".hidden").mkdir()
    splits = data(root, val_fraction=0.25).splits()
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [18, 6, 12]
    seen = []
    for name, part in {"train": splits.train, "val": splits.val, "test": splits.test}.items():
        paths = [part.path(index) for index in range(len(part))]
        assert paths == sorted(paths)
        folder = "val" if name == "test" else "train"
        assert all(
            path.startswith(f"{root}/{folder}/n{label:02}/") for path, label in zip(paths, part.labels, strict=True)
        )
        seen += paths
    assert len(set(seen)) == len(seen) == 36
    assert [part.labels.bincount().tolist() for part in (splits.train, splits.val)] == [[6] * 3, [2] * 3]


def test_a_relative_root_is_found_from_anywhere(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    splits = data(root.name).splits()
    monkeypatch.chdir("/")
    assert os.path.exists(splits.test.path(0))  # noqa: PTH110


def test_label_noise_reaches_training_and_validation_alone(root):
    clean, noisy = (data(root, val_fraction=0.25, label_noise=share).splits() for share in (0.0, 0.5))
    assert (clean.train.labels != noisy.train.labels).sum() == 9
    assert (clean.val.labels != noisy.val.labels).sum() == 3
    assert torch.equal(clean.test.labels, noisy.test.labels)
    with pytest.raises(ValueError, match="noise=asymmetric: ImageNet does not say"):
        data(root, label_noise=0.5, noise="asymmetric")


def test_measuring_takes_the_middle_of_the_shorter_sides_seven_eighths(root):
    """Of an image of 16 × 32 pixels, where resizing changes nothing, the middle 14 × 14."""
    for path in (root / "val").rglob("*.JPEG"):
        path.unlink()
    pixels = torch.randint(0, 256, (16, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for folder in (root / "val").iterdir():
        Image.fromarray(pixels.numpy()).save(folder / "image.JPEG", "png")
    images = data(root)
    loader = images.loader(images.splits().test, batch_size=1, seed=(0,), device=CPU, augmented=False)
    [(measured, labels)] = loader.in_order()
    assert labels.tolist() == [0, 1, 2]
    mean, std = torch.tensor(ImageNet.mean).view(3, 1, 1), torch.tensor(ImageNet.std).view(3, 1, 1)
    expected = (pixels[1:15, 9:23].permute(2, 0, 1) / 255 - mean) / std
    torch.testing.assert_close(measured, expected.expand(3, 3, 14, 14))
    batch, _ = loader.batch(0)
    torch.testing.assert_close(batch[0], expected)


def test_training_crops_at_random_and_flips(root):
    """Of a ramp from black on the left to white on the right: every second one falls, and their widths differ."""
    ramp = torch.arange(256, dtype=torch.uint8).expand(256, 256)
    for path in (root / "train").rglob("*.JPEG"):
        Image.fromarray(ramp.numpy()).save(path, "png")
    images = data(root, val_fraction=0)
    loader = images.loader(images.splits().train, batch_size=24, seed=(0,), device=CPU, augmented=True)
    rows = torch.cat([loader.batch(number)[0] for number in range(8)])[:, 0, 7] * ImageNet.std[0]
    widths = (rows[:, -1] - rows[:, 0]) * 14 / 13  # as shares of the image's width
    assert (widths > 0).float().mean() == pytest.approx(0.5, abs=0.12)
    assert widths.abs().min() < 0.4
    assert 0.85 < widths.abs().max() <= 1.02
    assert len(widths.unique()) > 100


def wrong_count(root):
    return ValueError, rf"^classes=4: there are 3 folders in {root}/train; take data.classes=3$"


def stranger(root):
    (root / "val" / "n09").mkdir()
    return ValueError, rf"^{root}/val has a class that {root}/train does not: n09 \(1 in all\); move it away$"


def no_train(root):
    shutil.rmtree(root / "train")
    return FileNotFoundError, rf"^no train/<class>/\*.JPEG in {root}: put the images there"


def flat_val(root):
    for folder in (root / "val").iterdir():
        shutil.rmtree(folder)
    (root / "val" / "ILSVRC2012_val_00000001.JPEG").touch()
    return FileNotFoundError, rf"^no val/<class>/\*.JPEG in {root}: put the images there"


def empty_class(root):
    shutil.rmtree(root / "train" / "n01")
    (root / "train" / "n01").mkdir()
    return FileNotFoundError, rf"^{root}/train/n01 holds no \*.JPEG"


@pytest.mark.parametrize("damage", [wrong_count, stranger, no_train, flat_val, empty_class])
def test_folders_that_do_not_fit_are_refused_in_one_line(root, damage):
    kind, message = damage(root)
    with pytest.raises(kind, match=message) as caught:
        data(root, classes=4 if damage is wrong_count else 3).splits()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"classes": 0},
        {"size": 0},
        {"size": 22.4},
        {"workers": -1},
        {"workers": "many"},
        {"broken": "mend"},
        {"val_fraction": 1},
    ],
    ids=str,
)
def test_refuses_settings_out_of_range_by_name(settings):
    [(name, value)] = settings.items()
    with pytest.raises(ValueError, match=f"{name}={value}: must "):
        ImageNet(**settings)


def test_workers_leave_a_core_and_are_shared_out(monkeypatch):
    for cores, processes, expected in [(1, 1, 1), (4, 1, 3), (64, 1, 8), (16, 4, 3), (2, 4, 1)]:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert ImageNet().workers == expected

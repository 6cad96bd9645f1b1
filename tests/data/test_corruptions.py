"""Spoiled images: those made here, and the published files."""

import numpy as np
import pytest
import torch
from imagecorruptions import corrupt

from lets_runner.data.corruptions import Corruption, names, read_corrupted

IMAGE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 40, 48), dtype=np.uint8))
SHAPE = (3, 4, 4)
KNOWN = ["gaussian_noise", "fog", "pixelate", "jpeg_compression", "glass_blur", "elastic_transform"]


@pytest.mark.parametrize("name", ["brightness", "pixelate", "contrast", "jpeg_compression"])
def test_what_draws_nothing_is_the_packages(name):
    expected = corrupt(IMAGE.permute(1, 2, 0).numpy(), corruption_name=name, severity=3)
    assert (Corruption(name, 3)(IMAGE).permute(1, 2, 0).numpy() == expected).all()


@pytest.mark.parametrize("name", KNOWN)
def test_an_image_is_spoiled_alike_whatever_was_before(name):
    first = Corruption(name, 2)(IMAGE)
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    assert torch.equal(Corruption(name, 2)(IMAGE), first)
    assert (np.random.get_state()[1] == before).all()
    assert first.dtype == torch.uint8 and first.shape == IMAGE.shape
    assert not torch.equal(first, IMAGE)


def test_seed_image_and_strength_make_a_difference():
    plain = Corruption("gaussian_noise", 1)(IMAGE)
    assert not torch.equal(Corruption("gaussian_noise", 1, seed=1)(IMAGE), plain)
    noise = plain.int() - IMAGE.int()
    assert not torch.equal(Corruption("gaussian_noise", 1)(IMAGE.flip(2)).int() - IMAGE.flip(2).int(), noise)
    weak, strong = ((Corruption("gaussian_noise", s)(IMAGE) - IMAGE.int()).float().square().mean() for s in (1, 5))
    assert strong > 3 * weak


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 20), (1, 40, 40)])
def test_small_and_grey_images_keep_their_shape(shape):
    image = torch.full(shape, 120, dtype=torch.uint8)
    found = Corruption("gaussian_noise", 5)(image)
    assert found.shape == shape and found.float().std() > 5
    assert Corruption("contrast", 1)(image).float().sub(120).abs().max() <= 1  # nothing to flatten


def test_names_are_those_of_the_benchmark_or_said():
    assert len(names(["all"])) == 15
    assert names(["fog", "all", "fog", "saturate"])[::15] == ["fog", "saturate"]
    with pytest.raises(ValueError, match="--corruptions smog: must be all, or of gaussian_noise, "):
        names(["smog"])


def write(folder, *, classes=10, count=3, names=("fog", "snow"), shape=(4, 4, 3), dtype=np.uint8):
    folder.mkdir()
    np.save(folder / "labels.npy", np.tile(np.arange(count) % classes, 5))
    for place, name in enumerate(names):
        severity = np.arange(5).repeat(count)[:, None, None, None]
        np.save(folder / f"{name}.npy", (np.zeros((5 * count, *shape)) + 10 * place + severity).astype(dtype))
    return folder


def test_the_published_layout_is_read_severity_by_severity(tmp_path):
    found = list(read_corrupted(write(tmp_path / "CIFAR-10-C"), classes=10, shape=SHAPE))
    assert [(name, severity) for name, severity, _ in found] == [(n, s) for n in ("fog", "snow") for s in range(1, 6)]
    for name, severity, examples in found:
        assert examples.images.shape == (3, 3, 4, 4) and examples.labels.tolist() == [0, 1, 2]
        assert (examples.images == 10 * (name == "snow") + severity - 1).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"names": ()}, "holds no <corruption>.npy beside labels.npy"),
        ({"dtype": np.float32}, r"fog.npy: is float32 \(15, 4, 4, 3\); must be uint8 \(15, 4, 4, 3\) for this model"),
        ({"shape": (8, 4, 3)}, r"fog.npy: is uint8 \(15, 8, 4, 3\); must be uint8 \(15, 4, 4, 3\) for this model"),
        ({"classes": 11, "count": 11}, "labels.npy: has class 10, and the model knows 10"),
    ],
)
def test_files_that_are_not_as_published_are_named(tmp_path, settings, message):
    folder = write(tmp_path / "C", **settings)
    with pytest.raises((ValueError, OSError), match=message):
        list(read_corrupted(folder, classes=10, shape=SHAPE))


def test_nothing_is_unpickled(tmp_path):
    folder = write(tmp_path / "C")
    np.save(folder / "fog.npy", np.array([print, len], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"fog.npy: cannot be read as an array of numbers"):
        list(read_corrupted(folder, classes=10, shape=SHAPE))
    (folder / "labels.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"labels.npy: there is no such file; the folder must be as CIFAR-10-C"):
        list(read_corrupted(folder, classes=10, shape=SHAPE))

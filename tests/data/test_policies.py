"""RandAugment and TrivialAugment of batches against torchvision's own of single images."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from lets_runner.data import Augmentation, DeviceLoader, Examples, ImageNet, Share
from lets_runner.data.policies import Policy

CPU = torch.device("cpu")
NAMES = ["randaugment", "trivialaugment"]
IMAGES = torch.randint(0, 256, (60, 3, 12, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def by_torchvision(monkeypatch, name, image, choices, magnitude):
    """One image through torchvision's transform, which is told what it draws: (operation, bin, sign) a round."""
    theirs = v2.RandAugment(len(choices), magnitude) if name == "randaugment" else v2.TrivialAugmentWide()
    sizes = [known(31, 1, 1) is not None for known, _ in theirs._AUGMENTATION_SPACE.values()]
    numbers = [[o, size] if name == "trivialaugment" and sizes[o] else [o] for o, size, _ in choices]
    signed = [signed for _, signed in theirs._AUGMENTATION_SPACE.values()]
    drawn = iter([number for one in numbers for number in one])
    signs = iter([0.0 if sign else 1.0 for o, _, sign in choices if signed[o]])
    with monkeypatch.context() as patched:
        patched.setattr(torch, "randint", lambda *_: next(drawn))
        patched.setattr(torch, "rand", lambda *_: next(signs))
        return theirs(image)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_images_one_by_one(monkeypatch, name):
    policy = Policy(name, ops=2, magnitude=13)
    done = policy(IMAGES, 5, count=60, rows=slice(0, 60))
    rng = np.random.default_rng(5)
    rounds = [policy._drawn(rng, 60) for _ in range(2 if name == "randaugment" else 1)]
    for place, image in enumerate(IMAGES):
        expected = by_torchvision(monkeypatch, name, image, [drawn[place].tolist() for drawn in rounds], 13)
        assert torch.equal(done[place], expected)
    assert done.dtype == torch.uint8 and (done != IMAGES).any()


def test_randaugment_has_its_magnitude_and_trivialaugment_all():
    fixed, drawn = (Policy(name, magnitude=17)._drawn(np.random.default_rng(0), 5000) for name in NAMES)
    for choices in (fixed, drawn):
        assert {*choices[:, 0]} == set(range(14))
        assert np.bincount(choices[:, 0]).min() > 250
    assert {*fixed[:, 1]} == {0, 17}  # 0 for those without a magnitude
    assert {*drawn[:, 1]} == set(range(31))
    names = list(v2.RandAugment._AUGMENTATION_SPACE)
    signed = [names.index(name) for name in ("ShearX", "Rotate", "Sharpness")]
    assert fixed[np.isin(fixed[:, 0], signed), 2].mean() == pytest.approx(0.5, abs=0.06)
    assert not fixed[fixed[:, 0] == names.index("Solarize"), 2].any()


def test_no_policy_changes_nothing():
    assert Policy()(IMAGES, 0, count=60, rows=slice(0, 60)) is IMAGES


def loader(policy, seed=(0, 0), share=None):
    examples = Examples(IMAGES, torch.arange(60) % 3)
    form = {"mean": (0.5,) * 3, "std": (0.2,) * 3, "device": CPU, "share": share or Share()}
    return DeviceLoader(examples, batch_size=20, seed=seed, augmentation=Augmentation(1, True, 3, policy), **form)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_rows_of_all_processes_are_the_batch_of_one(name, size):
    whole, ranks = loader(Policy(name)), [loader(Policy(name), share=Share(rank, size)) for rank in range(size)]
    for number in (0, 4):
        images, labels = whole.batch(number)
        parts = [rank.batch(number) for rank in ranks]
        assert torch.equal(torch.cat([part[0] for part in parts]), images)
        assert torch.equal(torch.cat([part[1] for part in parts]), labels)
    assert not torch.equal(whole.batch(0)[0], loader(Policy()).batch(0)[0])
    assert not torch.equal(whole.batch(0)[0], loader(Policy(name), (0, 1)).batch(0)[0])


@pytest.mark.parametrize("name", NAMES)
def test_images_in_files_go_through_torchvisions_transform(tmp_path, name):
    from conftest import write_imagenet

    write_imagenet(tmp_path, train=8)

    def batch(**settings):
        data = ImageNet(str(tmp_path), classes=3, size=16, workers=0, **settings)
        form = {"batch_size": 6, "seed": (0, 0), "device": CPU}
        examples = data.splits().train
        return [data.loader(examples, augmented=augmented, **form).batch(0)[0] for augmented in (True, False)]

    plain, changed, again = batch(), batch(policy=name), batch(policy=name)
    assert torch.equal(changed[0], again[0])
    assert not torch.equal(changed[0], plain[0])
    assert torch.equal(changed[1], plain[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "autoaugment"}, "policy=autoaugment: must be randaugment or trivialaugment, or null"),
        ({"ops": 0}, "policy_ops=0: must be at least 1"),
        ({"magnitude": 31}, "policy_magnitude=31: must lie between 0 and 30"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        Policy(**settings)

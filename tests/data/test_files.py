"""Images in files: what is read from them, which batches they make, and the workers."""

import multiprocessing
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from conftest import write_imagenet
from PIL import Image
from torchvision.transforms import v2

from lets_runner.data import BrokenImage, FileLoader, Files, Share
from lets_runner.data.files import GRACE, read_image

CPU = torch.device("cpu")
COUNT = 13


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Plain colours, in every crop the same: red is 10 times the label."""
    folder = tmp_path_factory.mktemp("files")
    for label in range(COUNT):
        size = (20 + label, 50 - 2 * label)
        Image.new("RGB", size, (10 * label, 255, 0)).save(folder / f"{label}.JPEG", "png")
    return Files(str(folder), np.array([f"{label}.JPEG".encode() for label in range(COUNT)]), torch.arange(COUNT))


@pytest.fixture
def noise(tmp_path):
    """Images of noise, in which every crop differs."""
    for name in range(COUNT):
        pixels = np.random.default_rng(name).integers(0, 256, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return Files(str(tmp_path), np.array([f"{name}.png".encode() for name in range(COUNT)]), torch.arange(COUNT))


def loader(files, batch_size=4, workers=0, seed=(0, 0), device=CPU, **settings):
    return FileLoader(
        files,
        batch_size=batch_size,
        augmented=v2.Compose([v2.RandomResizedCrop(16), v2.RandomHorizontalFlip()]),
        plain=v2.Compose([v2.Resize(18), v2.CenterCrop(16)]),
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.6, 0.7),
        seed=seed,
        device=device,
        workers=workers,
        **settings,
    )


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def joined(batches):
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        ("RGB", "jpeg", (200, 100, 50)),
        ("L", "jpeg", (124, 124, 124)),
        ("CMYK", "jpeg", (200, 100, 50)),
        ("RGB", "png", (200, 100, 50)),
        ("P", "png", (200, 100, 50)),
        ("LA", "png", (124, 124, 124)),
        ("RGBA", "png", (200, 100, 50)),
        ("RGB", "bmp", (200, 100, 50)),
    ],
)
def test_every_kind_of_file_comes_out_as_rgb_whatever_its_name(tmp_path, mode, kind, expected):
    path = tmp_path / "image.JPEG"
    Image.new("RGB", (31, 17), (200, 100, 50)).convert(mode).save(path, kind)
    image = read_image(str(path))
    assert image.dtype == torch.uint8
    assert image.shape == (3, 17, 31)
    torch.testing.assert_close(image.float().mean((1, 2)), torch.tensor(expected).float(), rtol=0, atol=2)


def test_rows_run_down_and_columns_to_the_right(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    assert np.array_equal(read_image(str(tmp_path / "image.png")).numpy(), pixels.transpose(2, 0, 1))


def test_images_belong_to_their_labels_and_are_normalised(files):
    data = loader(files)
    assert len(data) == 3
    for images, labels in [data.batch(0), data.batch(7), *data.in_order()]:
        assert images.shape == (len(labels), 3, 16, 16)
        assert images.dtype == torch.float32
        red = labels.double() * 10 / 255
        for channel, (value, mean, std) in enumerate([(red, 0.1, 0.5), (1.0, 0.2, 0.6), (0.0, 0.3, 0.7)]):
            expected = torch.as_tensor((value - mean) / std).float().view(-1, 1, 1).expand(len(labels), 16, 16)
            torch.testing.assert_close(images[:, channel], expected, atol=1e-5, rtol=0)


def test_an_epoch_shows_examples_once_and_the_next_one_in_another_order(files):
    data = loader(files)
    epochs = [torch.cat([data.batch(number)[1] for number in range(start, start + 3)]).tolist() for start in (0, 3)]
    assert all(len(set(epoch)) == 12 for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert torch.cat([labels for _, labels in data.in_order()]).tolist() == list(range(COUNT))


def test_order_is_the_plain_image_and_batches_are_cut_from_it_at_random(noise):
    data = loader(noise)
    [(images, labels)] = data.in_order()
    transform = v2.Compose([v2.Resize(18), v2.CenterCrop(16)])
    pixels = torch.stack([transform(read_image(noise.path(label))) for label in labels])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)))
    torch.testing.assert_close(images, (pixels / 255 - mean) / std)
    for image, label in zip(*data.batch(0), strict=True):
        assert not torch.equal(image, images[label])


def test_workers_change_nothing_in_whatever_order_batches_are_asked_for(noise):
    """Neither do they touch the random numbers of the training."""
    there, here = loader(noise, workers=2), loader(noise)
    state = torch.get_rng_state()
    for number in (0, 1, 2, 3, 9, 8, 9, 10):
        assert same(there.batch(number), here.batch(number))
    pieces = there.in_order()
    first = next(pieces)
    assert same(there.batch(4), here.batch(4))
    assert same(joined([first, *pieces]), joined(here.in_order()))
    assert same(there.batch(5), here.batch(5))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(multiprocessing.active_children()) == 2
    there.close()
    assert multiprocessing.active_children() == []


def test_nothing_is_started_before_the_first_batch(noise):
    data = loader(noise, workers=1)
    assert multiprocessing.active_children() == []
    data.batch(0)
    assert len(multiprocessing.active_children()) == 1
    del data
    assert multiprocessing.active_children() == []


def test_a_batch_depends_on_seed_and_number_and_on_the_place_in_it(noise):
    assert same(loader(noise).batch(7), loader(noise).batch(7))
    assert not torch.equal(loader(noise, seed=(0, 1)).batch(7)[1], loader(noise).batch(7)[1])
    one = Files(noise.folder, noise.names[[0] * COUNT], noise.labels)
    images = torch.cat([loader(one).batch(number)[0] for number in range(3)])
    assert len(torch.unique(images.flatten(1), dim=0)) == 12


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_rows_of_all_processes_are_the_batch_of_one(noise, size, monkeypatch):
    monkeypatch.setattr("lets_runner.data.files.PIECE", 2)
    ranks = [loader(noise, share=Share(rank, size)) for rank in range(size)]
    for number in (0, 5):
        assert same(joined([rank.batch(number) for rank in ranks]), loader(noise).batch(number))
    pieces = [list(rank.in_order()) for rank in ranks]
    assert len({len(rank) for rank in pieces}) == 1
    assert same(joined([batch for rank in pieces for batch in rank]), joined(loader(noise).in_order()))


def test_channels_last_changes_the_layout_alone(noise):
    plain, last = loader(noise).batch(0)[0], loader(noise, channels_last=True).batch(0)[0]
    assert torch.equal(plain, last)
    assert last.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_arrive_on_an_accelerator(noise):
    there, here = loader(noise, workers=1, device=torch.device("cuda")), loader(noise)
    for number in range(4):
        images, labels = there.batch(number)
        assert images.is_cuda
        torch.testing.assert_close(images.cpu(), here.batch(number)[0])
        assert torch.equal(labels.cpu(), here.batch(number)[1])
    there.close()


def truncated(path):
    path.write_bytes(path.read_bytes()[:60])


def text(path):
    path.write_text("not an image")


def empty(path):
    path.write_bytes(b"")


def gone(path):
    path.unlink()


@pytest.fixture
def spoiled(noise, tmp_path, request):
    request.param(tmp_path / "5.png")
    return noise


EVERY_DAMAGE = pytest.mark.parametrize("spoiled", [truncated, text, empty, gone], indirect=True)


@EVERY_DAMAGE
@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_stops_with_its_name_and_the_remedy(spoiled, workers):
    data = loader(spoiled, workers=workers)
    for use in (lambda: [data.batch(number) for number in range(4)], lambda: list(data.in_order())):
        with pytest.raises(BrokenImage) as caught:
            use()
        message = str(caught.value)
        assert message.startswith(f"{spoiled.path(5)} cannot be read as an image (")
        assert message.endswith("): put the whole file there, or leave such files out with data.broken=skip")
        assert "\n" not in message
    data.close()


@EVERY_DAMAGE
def test_a_broken_image_is_left_out_with_one_warning_if_asked(spoiled):
    whole, data = loader(spoiled, skip=True, batch_size=13), loader(spoiled, skip=True, batch_size=13)
    with pytest.warns(UserWarning, match=r"5\.png cannot be read as an image .* and is left out") as warned:
        (images, labels), (_, in_order), _ = data.batch(0), *data.in_order(), data.batch(1)
    assert len(warned) == 1
    assert in_order.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12]
    assert sorted(labels.tolist()) == [0, 1, 2, 3, 4, 6, 6, 7, 8, 9, 10, 11, 12]  # the next in its place
    assert labels[whole.stream.order(0).tolist().index(5)] == 6
    assert len(torch.unique(images.flatten(1), dim=0)) == 13  # another crop


def test_if_no_image_can_be_read_that_is_said_even_if_asked_to_skip(noise, tmp_path):
    for path in tmp_path.glob("*.png"):
        text(path)
    for use in (lambda data: data.batch(0), lambda data: list(data.in_order())):
        with warnings.catch_warnings(), pytest.raises(BrokenImage, match=r"and so it is with all others"):
            warnings.simplefilter("ignore")
            use(loader(noise, skip=True))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_leaves_signals_to_the_main_process(noise, number):
    """Ctrl-C, and many a scheduler, signal every process; the step that is to be saved may need another batch."""
    data = loader(noise, workers=1)
    data.batch(0)
    [worker] = multiprocessing.active_children()
    os.kill(worker.pid, number)
    for batch in range(1, 20):
        assert same(data.batch(batch), loader(noise).batch(batch))
    data.close()


PROGRAM = """
import sys, torch
from lets_runner.data import ImageNet
if __name__ == "__main__":
    data = ImageNet(sys.argv[1], classes=3, size=8, workers=1)
    loader = data.loader(data.splits().test, batch_size=2, seed=(0,), device=torch.device("cpu"), augmented=True)
    loader.batch(0)
    print("ready", flush=True)
    if len(sys.argv) > 2:
        loader.batch(1)
        raise RuntimeError("half-way")
    sys.stdin.read()
"""


def test_workers_end_with_their_process_however_it_ends(tmp_path):
    """Nobody closes the loader; the streams end when the last process that holds them does."""
    write_imagenet(tmp_path / "data", train=2)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def start(*words):
        command = [sys.executable, program, tmp_path / "data", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    with start() as killed, start("fail") as failing:
        try:
            assert killed.stdout.readline() == "ready\n", killed.stderr.read()
            killed.kill()
            assert "Traceback" not in killed.communicate(timeout=60)[1]
            assert failing.stdout.readline() == "ready\n", failing.stderr.read()
            out, err = failing.communicate(timeout=GRACE - 5)
        finally:
            killed.kill()
            failing.kill()
    assert (out, failing.returncode) == ("", 1)
    assert err.endswith("RuntimeError: half-way\n")

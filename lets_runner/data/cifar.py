"""CIFAR-10 and CIFAR-100 from their official binary version, or from torchvision's files where those are there.

Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009. A record of the binary version is one label
byte (CIFAR-10) or a coarse and a fine label byte (CIFAR-100), then 3,072 bytes of pixels: red, green, blue, row by row.
"""

import socket
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from lets_runner.data.images import ImageData
from lets_runner.data.splits import Examples

SHAPE = (3, 32, 32)  # of an image in a file
PIXELS = 3 * 32 * 32
PATIENCE = 30  # seconds without an answer before a download gives up
# CIFAR-100's 20 superclasses, by their coarse label, as their five fine classes.
SUPERCLASSES = (
    (4, 30, 55, 72, 95),  # aquatic mammals
    (1, 32, 67, 73, 91),  # fish
    (54, 62, 70, 82, 92),  # flowers
    (9, 10, 16, 28, 61),  # food containers
    (0, 51, 53, 57, 83),  # fruit and vegetables
    (22, 39, 40, 86, 87),  # household electrical devices
    (5, 20, 25, 84, 94),  # household furniture
    (6, 7, 14, 18, 24),  # insects
    (3, 42, 43, 88, 97),  # large carnivores
    (12, 17, 37, 68, 76),  # large man-made outdoor things
    (23, 33, 49, 60, 71),  # large natural outdoor scenes
    (15, 19, 21, 31, 38),  # large omnivores and herbivores
    (34, 63, 64, 66, 75),  # medium-sized mammals
    (26, 45, 77, 79, 99),  # invertebrates other than insects
    (2, 11, 35, 46, 98),  # people
    (27, 29, 44, 78, 93),  # reptiles
    (36, 50, 65, 74, 80),  # small mammals
    (47, 52, 56, 59, 96),  # trees
    (8, 13, 48, 58, 90),  # vehicles 1
    (41, 69, 81, 85, 89),  # vehicles 2
)
# CIFAR-100's fine classes, in the order of their labels.
FINE_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark
shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


class CIFAR(ImageData):
    """What CIFAR-10 and CIFAR-100 have in common.

    Args:
        root: the folder that holds, or is to hold, the archive's own folder.
        download: fetch the official binary archive if `root` holds no version of the data set.
        settings: see `ImageData`.

    Raises:
        FileNotFoundError: no data, and none to be had.
        ValueError: a file that is not what it should be, by name.
    """

    shape = SHAPE
    label_bytes: int
    folder: str  # of the binary version
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    url: str
    md5: str
    torchvision_name: str
    torchvision_folder: str

    def __init__(self, root: str = "data", *, download: bool = True, **settings: Any):
        super().__init__(**settings)
        self.root = Path(root).expanduser()
        self.download = download

    def read(self) -> tuple[Examples, Examples]:
        if not (self.root / self.folder).is_dir():
            if (self.root / self.torchvision_folder).is_dir():
                return self._read_torchvision(train=True), self._read_torchvision(train=False)
            self._download()
        return self._read_binary(self.train_files), self._read_binary(self.test_files)

    def _read_binary(self, names: tuple[str, ...]) -> Examples:
        records = np.concatenate([self._records(self.root / self.folder / name) for name in names])
        images = torch.from_numpy(records[:, self.label_bytes :].reshape(-1, *SHAPE).copy())
        return Examples(images, torch.from_numpy(records[:, self.label_bytes - 1].astype(np.int64)))

    def _records(self, path: Path) -> np.ndarray:
        size = self.label_bytes + PIXELS
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing from the binary version of {self.torchvision_name}")
        content = np.fromfile(path, dtype=np.uint8)
        if len(content) == 0 or len(content) % size:
            raise ValueError(
                f"{path} has {len(content)} bytes, no multiple of a record's {size}: cut short? Fetch it again"
            )
        records = content.reshape(-1, size)
        if (largest := records[:, self.label_bytes - 1].max()) >= self.classes:
            raise ValueError(
                f"{path} holds class {largest} but there are {self.classes} classes: not a file of this data set"
            )
        return records

    def _read_torchvision(self, *, train: bool) -> Examples:
        # These files are pickles. torchvision reads them only when their md5 is the published one.
        import torchvision

        try:
            data = getattr(torchvision.datasets, self.torchvision_name)(self.root, train=train, download=False)
        except RuntimeError as error:
            raise ValueError(
                f"{self.root / self.torchvision_folder} is not the published {self.torchvision_name} (a file is "
                "missing or its md5 differs) and is not read: put the official files there"
            ) from error
        images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        return Examples(images, torch.tensor(data.targets))

    def _download(self) -> None:
        """Fetch and unpack the binary archive; nothing is left behind if that fails half-way."""
        advice = f"put {self.folder} from {self.url} into {self.root.absolute()}, or point data.root to where it is"
        if not self.download:
            raise FileNotFoundError(f"no {self.torchvision_name} in {self.root.absolute()}: {advice}")
        from torchvision.datasets.utils import download_url

        with tempfile.TemporaryDirectory() as temporary:
            try:
                with _patience(PATIENCE):
                    download_url(self.url, temporary, filename="archive.tar.gz", md5=self.md5)
            except (OSError, RuntimeError) as error:  # RuntimeError: the md5 does not match
                raise FileNotFoundError(
                    f"no {self.torchvision_name} in {self.root.absolute()}, and the download failed ({error}): {advice}"
                ) from error
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.root) as unpacked:
                with tarfile.open(f"{temporary}/archive.tar.gz") as archive:
                    archive.extractall(unpacked, filter="data")
                try:
                    (Path(unpacked) / self.folder).rename(self.root / self.folder)
                except OSError:
                    if not (self.root / self.folder).is_dir():  # or another run was quicker
                        raise


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


class CIFAR10(CIFAR):
    """Ten classes, 50,000 training and 10,000 test images."""

    classes = 10
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)
    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    # truck to automobile, bird to airplane, deer to horse, cat to dog and dog to cat
    confusions: ClassVar = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}
    label_bytes = 1
    folder = "cifar-10-batches-bin"
    train_files = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
    test_files = ("test_batch.bin",)
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    md5 = "c32a1d4ab5d03f1284b67883e8d87530"
    torchvision_name = "CIFAR10"
    torchvision_folder = "cifar-10-batches-py"


class CIFAR100(CIFAR):
    """A hundred fine classes, 50,000 training and 10,000 test images."""

    classes = 100
    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)
    class_names = tuple(FINE_CLASSES.split())
    # Each to the next of its superclass, the last to the first.
    confusions: ClassVar = {a: b for group in SUPERCLASSES for a, b in zip(group, group[1:] + group[:1], strict=True)}
    label_bytes = 2
    folder = "cifar-100-binary"
    train_files = ("train.bin",)
    test_files = ("test.bin",)
    url = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
    md5 = "03b5dce01913d631647c71ecec9e9cb8"
    torchvision_name = "CIFAR100"
    torchvision_folder = "cifar-100-python"

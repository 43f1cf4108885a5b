"""The built-in data sets: digits comes with minet, MNIST and CIFAR-10 are downloaded if not found."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from minet.core.settings import is_whole
from minet.data.augment import Augmentation
from minet.data.dataset import Dataset
from minet.data.errors import DataError
from minet.data.readers import CIFAR10_MOST, Bytes, may_not, read_cifar10, read_idx_pair

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_FILES = {  # images and labels of each split, with the MD5 sums of the gzipped files
    "train": (
        ("train-images-idx3-ubyte", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        ("train-labels-idx1-ubyte", "d53e105ee54ea40749a09fcbcd1e9432"),
    ),
    "test": (
        ("t10k-images-idx3-ubyte", "9fb629c4189551a2d022fa330f9573f3"),
        ("t10k-labels-idx1-ubyte", "ec29112dd5afa0611ce80d1b7f02629c"),
    ),
}
MNIST_CONTENT = {  # the number of images in the official files, and the MD5 sums of the unpacked files
    "train": (60_000, "6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624"),
    "test": (10_000, "2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637"),
}
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/"
CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR10_FOLDER = "cifar-10-batches-bin"
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
CIFAR10_FILES = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}


def digits(
    split: str = "train",
    *,
    flip: bool = False,
    crop: int = 0,
    augment: Sequence[Augmentation] = (),
    mean: ArrayLike = 4.893,
    std: ArrayLike = 6.023,
    limit: int | None = None,
) -> Dataset:
    """Load 1,797 grey 8x8 images of handwritten digits, values 0 to 16, 10 classes; they come with minet.

    Image i is in the test set if ``i % 5 == 4``, otherwise in the training set: 1,438 and 359 images.

    Parameters
    ----------
    split : str
        "train" or "test".
    flip, crop, augment, mean, std
        As in `Dataset`.
    limit : int, optional
        Use only the first `limit` images.

    Raises
    ------
    DataError
        If the split is unknown or a setting is invalid.

    References
    ----------
    E. Alpaydin and C. Kaynak (1998), "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, https://doi.org/10.24432/C50P49, CC BY 4.0.
    """
    _check_split("digits", split)
    folder = Path(__file__).with_name("digits")
    images, labels = read_idx_pair(folder / "images-idx3-ubyte.gz", folder / "labels-idx1-ubyte.gz", 10)
    chosen = (np.arange(len(labels)) % 5 == 4) == (split == "test")
    settings = {"mean": mean, "std": std, "flip": flip, "crop": crop, "augment": augment}
    return _dataset(f"digits {split}", images[chosen], labels[chosen], limit, white=16.0, **settings)


def mnist(
    split: str = "train",
    *,
    flip: bool = False,
    crop: int = 0,
    augment: Sequence[Augmentation] = (),
    mean: ArrayLike = 0.1307 * 255,
    std: ArrayLike = 0.3081 * 255,
    limit: int | None = None,
) -> Dataset:
    """Load MNIST: 60,000 training and 10,000 test images of digits, 28x28 grey bytes, 10 classes.

    The IDX files, gzipped or not, are looked for in the folder named by the environment variable
    ``MINET_DATA`` (by default the user's cache), in its sub-folder ``mnist``, and where torchvision keeps
    them, in ``MNIST/raw``. Missing ones are downloaded into ``mnist``.

    Parameters
    ----------
    split, flip, crop, augment, mean, std, limit
        As in `digits`.

    Raises
    ------
    DataError
        If the files are not found and cannot be downloaded, or are damaged, or a setting is invalid.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner (1998), "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE 86(11).
    """
    _check_split("mnist", split)
    root = _root()
    folders = [root, root / "mnist", root / "MNIST/raw", root / "raw"]
    paths = [
        _find(
            folders, *(f"{stem}{end}" for stem in (name, name.replace("-idx", ".idx")) for end in ("", ".gz"))
        )
        or _download(f"{MNIST_URL}{name}.gz", md5, root / "mnist", folders)
        for name, md5 in MNIST_FILES[split]
    ]
    images, labels = read_idx_pair(paths[0], paths[1], 10)
    count, *sums = MNIST_CONTENT[split]
    if images.shape == (count, 28, 28):
        for path, array, md5 in zip(paths, (images, labels), sums, strict=True):
            _check_content(path, array, md5)
    settings = {"mean": mean, "std": std, "flip": flip, "crop": crop, "augment": augment}
    return _dataset(f"mnist {split}", images, labels, limit, **settings)


def cifar10(
    split: str = "train",
    *,
    flip: bool = False,
    crop: int = 0,
    augment: Sequence[Augmentation] = (),
    mean: ArrayLike = (0.4914 * 255, 0.4822 * 255, 0.4465 * 255),
    std: ArrayLike = (0.2470 * 255, 0.2435 * 255, 0.2616 * 255),
    limit: int | None = None,
) -> Dataset:
    """Load CIFAR-10: 50,000 training and 10,000 test images, 32x32 bytes in 3 channels, 10 classes.

    The files of the *binary* version are looked for in the folder named by the environment variable
    ``MINET_DATA`` (by default the user's cache), in its sub-folder ``cifar10``, and in the folder
    ``cifar-10-batches-bin`` in either. If they are not there, all are unpacked from
    ``cifar-10-binary.tar.gz``, which is downloaded if necessary.

    Parameters
    ----------
    split, flip, crop, augment, mean, std, limit
        As in `digits`.

    Raises
    ------
    DataError
        If the files are not found and cannot be downloaded, or are damaged, or a setting is invalid.

    References
    ----------
    A. Krizhevsky (2009), "Learning multiple layers of features from tiny images", University of Toronto.
    """
    _check_split("cifar10", split)
    root = _root()
    folders = [root, root / "cifar10"]
    places = [*folders, *(folder / CIFAR10_FOLDER for folder in folders)]
    found = {name: path for name in CIFAR10_FILES[split] if (path := _find(places, name))}
    paths = list(found.values())
    if missing := [name for name in CIFAR10_FILES[split] if name not in found]:
        archive = _find(folders, CIFAR10_ARCHIVE)
        if paths and not archive:
            raise DataError(
                f"{paths[0].with_name(missing[0])}: not found, though {paths[0].name} is there",
                "fetch it too, or delete the others: then all are downloaded",
            )
        archive = archive or _download(CIFAR10_URL + CIFAR10_ARCHIVE, CIFAR10_MD5, folders[-1], places)
        _unpack_cifar10(archive)
        paths = [archive.parent / CIFAR10_FOLDER / name for name in CIFAR10_FILES[split]]
    parts = [read_cifar10(path) for path in paths]
    counts = [len(labels) for _, labels in parts]
    if len(set(counts)) > 1:
        raise DataError(
            f"{paths[counts.index(min(counts))]}: holds {min(counts):,} images, others hold {max(counts):,}",
            "all batch files are the same size: this one is incomplete, delete it and fetch it again",
        )
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    settings = {"mean": mean, "std": std, "flip": flip, "crop": crop, "augment": augment}
    return _dataset(f"cifar10 {split}", images, labels, limit, classes=CIFAR10_CLASSES, **settings)


def _check_content(path: Path, array: Bytes, md5: str) -> None:
    """Raise DataError unless an array, written as an IDX file, has this MD5 sum."""
    header = bytes((0, 0, 8, array.ndim)) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    digest = hashlib.md5(header, usedforsecurity=False)
    digest.update(array.data)
    if digest.hexdigest() != md5:
        raise DataError(
            f"{path}: has the shape of the official file, {array.shape}, but not its content",
            "fetch it again; for other images of this shape, make a minet.data.Dataset",
        )


def _check_split(name: str, split: str) -> None:
    if split not in ("train", "test"):
        raise DataError(f"{name}: there is no split {split!r}", 'the splits are "train" and "test"')


def _dataset(name: str, images: Bytes, labels: Bytes, limit: int | None, **settings: Any) -> Dataset:
    if limit is not None and (not is_whole(limit) or limit < 1):
        raise DataError(
            f"{name}: limit must be a whole number of at least 1, got {limit!r}", "None for all images"
        )
    settings = {"classes": [str(digit) for digit in range(10)]} | settings
    return Dataset(images[:limit], labels[:limit], name=name, **settings)


def _root() -> Path:
    """The folder named by MINET_DATA; by default the user's cache, which may not exist yet."""
    named = os.environ.get("MINET_DATA")
    if not named:
        import pooch  # here, because few runs need it

        return Path(pooch.os_cache("minet"))
    root = Path(named).expanduser()
    if not root.is_dir():
        raise DataError(f"{root}: no such data folder", "fix --data-dir or MINET_DATA, or create the folder")
    return root


def _find(folders: list[Path], *names: str) -> Path | None:
    candidates = (folder / name for folder in folders for name in names)
    try:
        return next((path for path in candidates if path.is_file()), None)
    except PermissionError as error:  # of a folder
        raise may_not(Path(error.filename).parent, error) from error


def _download(url: str, md5: str, into: Path, searched: list[Path]) -> Path:
    """Download a file that is in none of the `searched` folders, and check its hash."""
    import pooch

    pooch.get_logger().setLevel("WARNING")  # otherwise it logs what the error below reports better
    name, new = url.rpartition("/")[2], [path for path in (into, *into.parents) if not path.exists()]
    if sys.stderr.isatty():  # it may take minutes
        print(f"downloading {url} to {into}", file=sys.stderr)
    try:
        return Path(pooch.retrieve(url, f"md5:{md5}", fname=name, path=into))
    except (OSError, ValueError) as error:  # OSError: network or disk; ValueError: wrong hash
        with contextlib.suppress(OSError):
            for path in new:
                path.rmdir()  # fails if the folder is not empty
        raise DataError(
            f"{name} was not found and could not be downloaded\n"
            f"  looked in: {', '.join(map(str, searched))}\n"
            f"  tried: {url}\n"
            f"  {type(error).__name__}: {error}",
            "get it by other means and give its folder with --data-dir or MINET_DATA",
        ) from error


def _unpack_cifar10(archive: Path) -> None:
    """Unpack the archive's data files into a folder next to it.

    Members are read and written only under known names, so nothing lands elsewhere, whatever paths and links
    the archive holds.
    """
    folder = archive.parent / CIFAR10_FOLDER
    try:
        folder.mkdir(exist_ok=True)
        with tarfile.open(archive, "r:gz") as tar:
            for name in (*CIFAR10_FILES["train"], *CIFAR10_FILES["test"]):
                member = tar.extractfile(f"{CIFAR10_FOLDER}/{name}")
                if member is None:
                    raise KeyError(f"{name} is not a file")
                if (size := tar.getmember(f"{CIFAR10_FOLDER}/{name}").size) > CIFAR10_MOST:
                    raise KeyError(f"{name} has {size} bytes, more than {CIFAR10_MOST}")
                part = folder / f"{name}.part"  # renamed once complete: an interruption leaves no short file
                with part.open("wb") as out:
                    shutil.copyfileobj(member, out)
                part.replace(folder / name)
    except PermissionError as error:
        raise may_not(error.filename, error) from error
    except (OSError, EOFError, KeyError, tarfile.TarError, zlib.error) as error:
        raise DataError(
            f"{archive}: cannot be unpacked: {error}",
            "if it is damaged, delete it and run again; if the folder is read-only, choose another",
        ) from error

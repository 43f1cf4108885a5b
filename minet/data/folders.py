"""Folders of images, a subfolder for each class, as torchvision's ImageFolder and Keras take them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minet.core.naming import relative
from minet.core.settings import is_whole
from minet.data.array_files import MEAN, STD
from minet.data.augment import Augmentation
from minet.data.checks import checked_names
from minet.data.dataset import Dataset
from minet.data.errors import DataError
from minet.data.image_files import FORMATS, MODES, ImageFiles, found, opened, quiet, several, upright
from minet.data.places import located
from minet.data.progress import IMAGES, reading

SPLITS = {  # what the folder of a split is called, in the order in which it is looked for
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing", "val", "valid", "validation"),
}
READERS = 8  # threads that decode files, at most
AHEAD = 4  # files for each of them that wait: decoded, they take memory beside the array


def folder(
    path: str | os.PathLike[str],
    split: str | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
    classes: Sequence[str] | None = None,
    mean: ArrayLike | str = MEAN,
    std: ArrayLike | str = STD,
    flip: bool = False,
    crop: int = 0,
    augment: Sequence[Augmentation] = (),
    name: str | None = None,
) -> Dataset:
    """Read a folder of PNG and JPEG files, with a subfolder for each class, named by it.

    All of them are read into memory, as bytes. A folder that holds ``train`` and ``val`` or ``test``, each
    with the subfolders of the classes, has splits; one that has none can be split by `Dataset.split`.

    Parameters
    ----------
    path : str or Path
        What is not in the current folder is looked for in that of ``MINET_DATA``.
    split : str, optional
        "train", "val" or "test", if the folder has splits. "test" takes ``val`` if there is no ``test``.
    size : int or (int, int), optional
        Height and width: each image is scaled to cover them, and what hangs over on both sides is cut off.
        By default all images must be of one size.
    channels : int
        3 for colours, 1 for grey, 4 for colours and transparency; files are converted.
    classes : sequence of str, optional
        The subfolders to read, in the order of their labels; by default all that are not hidden, sorted by
        name. A split has the classes of ``train``.
    mean, std
        As in `Dataset`; by default 127.5 and 63.75, which makes inputs from -2 to 2.
    flip, crop, augment
        As in `Dataset`.
    name : str, optional
        By default the folder's name and the split.

    Raises
    ------
    DataError
        If there is no such folder or split, if a class has no images, or if files cannot be read: those are
        named, each with what is wrong. Images of more than Pillow's limit of pixels are not read.
    """
    root = located(path)
    shown = relative(root)
    if not root.is_dir():
        raise DataError(f"{shown}: is not a folder", "data.idx and data.npz read files")
    if channels not in MODES:
        raise DataError(f"{shown}: channels must be 1, 3 or 4, got {channels!r}", "3 for colours, 1 for grey")
    here, names = _layout(root, split, None if classes is None else checked_names(classes, shown))
    files, labels = list[Path](), list[int]()
    for label, one in enumerate(names):
        untested = split in ("val", "test") and not (here / one).is_dir()  # which is no mistake
        inside = [] if untested else found([here / one], tuple(FORMATS))
        files += inside
        labels += [label] * len(inside)
    if not files:
        raise DataError(f"{relative(here)}: no images in this folder", "they end in .png, .jpg or .jpeg")
    images = _images(files, channels, size, shown)
    called = " ".join([root.resolve().name, *([split] if split else [])])
    return Dataset(
        images, labels, classes=names, mean=mean, std=std, flip=flip, crop=crop, augment=augment,
        name=called if name is None else name,
    )  # fmt: skip


def _layout(root: Path, split: str | None, classes: tuple[str, ...] | None) -> tuple[Path, tuple[str, ...]]:
    """The folder whose subfolders are classes, and the classes' names."""
    shown, inside = relative(root), _subfolders(root)
    known = {name for names in SPLITS.values() for name in names}
    parts = [name for name in inside if name in known]
    if not any(name in parts for name in SPLITS["train"]) or (split is None and parts != inside):
        parts = []  # classes, which may be called so too
    has = [name for name, called in SPLITS.items() if any(one in parts for one in called)]
    if split is None:
        if has:
            raise DataError(
                f"{shown}: holds {', '.join(parts)}, and none was named",
                f'data.folder({str(root)!r}, "{has[0]}")',
            )
        return root, _classes(root, inside, classes)
    if split not in SPLITS:
        raise DataError(f"{shown}: there is no split {split!r}", 'the splits are "train", "val" and "test"')
    if split not in has:
        holds = f"holds {', '.join(parts)}" if parts else "holds no folders train and val or test"
        raise DataError(
            f"{shown}: there is no split {split!r}: it {holds}",
            "train, test = data.folder(...).split(0.9) makes some",
        )
    folders = {name: root / next(one for one in SPLITS[name] if one in parts) for name in ("train", split)}
    of_train = _classes(folders["train"], _subfolders(folders["train"]), classes)
    here = folders[split]
    if more := [name for name in _subfolders(here) if name not in of_train] if classes is None else []:
        raise DataError(
            f"{relative(here)}: has a class {more[0]!r}, which {relative(folders['train'])} does not have",
            f"those of training are {', '.join(of_train)}",
        )
    return here, of_train


def _subfolders(place: Path) -> list[str]:
    """The names of a folder's subfolders that are not hidden, sorted."""
    try:
        with os.scandir(place) as entries:
            return sorted(
                entry.name for entry in entries if entry.is_dir() and not entry.name.startswith((".", "__"))
            )
    except OSError as error:
        raise DataError(f"{relative(place)}: cannot be read: {error.strerror}") from error


def _classes(here: Path, inside: list[str], classes: tuple[str, ...] | None) -> tuple[str, ...]:
    """The classes of a folder."""
    shown = relative(here)
    if not inside:
        raise DataError(
            f"{shown}: has no subfolders, which would be its classes",
            f"{here.name}/cat/1.png, {here.name}/dog/2.png",
        )
    if missing := [name for name in classes or () if name not in inside]:
        raise DataError(f"{shown}: has no class {missing[0]!r}", f"its subfolders are {', '.join(inside)}")
    return classes or tuple(inside)


class Pictures(ImageFiles):
    """Files as bytes (C, H, W), all of one size."""

    wanted = "the first one is", "size=64 scales images to cover 64x64, and cuts off what hangs over"

    def pixels(self, file: Path) -> NDArray[np.uint8]:
        """Read a file; `quiet` is for the caller."""
        shown = relative(file)
        if not file.is_file():
            raise DataError(f"{shown}: is not a file")
        with opened(file, shown) as image:
            return np.rint(self._fitted(image, shown)).clip(0, 255).astype(np.uint8)


def _images(
    files: Sequence[Path], channels: int, size: int | tuple[int, int] | None, where: str
) -> NDArray[np.uint8]:
    """Read all files as (N, C, H, W)."""
    with quiet():
        height, width = _size_of_first(files) if size is None else _checked_size(size, where)
        shape = (len(files), channels, height, width)
        try:
            images = np.empty(shape, np.uint8)
        except (MemoryError, ValueError) as error:
            raise DataError(
                f"{where}: {len(files):,} images of {width}x{height} pixels do not fit into memory",
                "size=64 scales them, and classes=... takes some",
            ) from error
        reader, wrong, hints = Pictures(shape[1:], 255.0, size is not None), list[str](), list[str]()
        with reading(where, len(files), IMAGES) as show:
            for i, future in enumerate(_ahead(reader, files)):
                try:
                    images[i] = future.result()
                except DataError as error:
                    wrong.append(error.message)
                    hints.append(error.hint)
                show(1)
    if wrong:
        raise several(wrong, hints)
    return images


def _ahead(reader: Pictures, files: Sequence[Path]) -> Iterator[Future[NDArray[np.uint8]]]:
    """Read files in several threads, ahead of the one that is waited for; decoders let others run."""
    workers = min(READERS, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="minet-images")
    ready: deque[Future[NDArray[np.uint8]]] = deque()
    try:
        for file in files:
            ready.append(pool.submit(reader.pixels, file))
            if len(ready) > AHEAD * workers:
                yield ready.popleft()
        yield from ready
    finally:
        pool.shutdown(cancel_futures=True)


def _size_of_first(files: Sequence[Path]) -> tuple[int, int]:
    """Height and width of the first image that can be read; the others are reported when they are."""
    for file in files:
        try:
            with opened(file, relative(file)) as image:
                width, height = upright(image)
                return height, width
        except DataError:
            continue
    return 1, 1  # none can be, so each will be named


def _checked_size(size: Any, where: str) -> tuple[int, int]:
    pair = (size, size) if is_whole(size) else size
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(is_whole(n) and n > 0 for n in pair):
        raise DataError(
            f"{where}: size must be a whole number above 0, or (height, width), got {size!r}", "size=64"
        )
    return int(pair[0]), int(pair[1])

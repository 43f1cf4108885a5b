"""Image files as a net's data set would hold them: PNG, JPEG and NumPy's .npy."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from minet.core.naming import relative
from minet.data.errors import DataError

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by the number of channels
NAMED = 9  # files that an error names

Image = NDArray[np.float32]


def found(paths: Sequence[str | Path], endings: Sequence[str] = (*FORMATS, ".npy")) -> list[Path]:
    """The files in a list of files and folders; of a folder its images, in sorted order, subfolders too.

    Hidden files and subfolders are left out.

    Raises
    ------
    DataError
        If there are none in a folder, or one of the names is of nothing.
    """
    files = []
    for path in map(Path, paths):
        if not os.path.isdir(path):
            files.append(path)
            continue
        inside = []
        for folder, below, names in os.walk(path, onerror=_unreadable):
            below[:] = [name for name in below if not name.startswith(".")]
            inside += [
                Path(folder, name)
                for name in names
                if Path(name).suffix.lower() in endings and not name.startswith(".")
            ]
        if not inside:
            listed = f"{', '.join(endings[:-1])} or {endings[-1]}"
            raise DataError(f"{path}: no images in this folder", f"they end in {listed}")
        files += sorted(inside)
    return files


def _unreadable(error: OSError) -> NoReturn:
    raise DataError(f"{relative(error.filename)}: cannot be read: {error.strerror}") from error


class ImageFiles:
    """Reads image files as arrays ``(C, H, W)`` in the units of a data set's pixels.

    A PNG or JPEG file is turned upright if it says how, converted to grey for one channel, to RGB for three
    and to RGBA for four, without regard to what is transparent, and scaled so that white is `white`. An array
    in a .npy file is taken as it is: ``(C, H, W)``, ``(H, W)`` for one channel, or several ``(M, C, H, W)``.

    Parameters
    ----------
    shape : (int, int, int)
        (C, H, W) of each image.
    white : float or None
        None refuses image files: nobody knows what white is.
    resize : bool
        Scale image files of another size, to cover HxW, and cut off what hangs over on both sides.
    """

    wanted = "the net takes", "--resize scales images to cover that, and cuts off what hangs over"

    def __init__(self, shape: tuple[int, ...], white: float | None, resize: bool = False) -> None:
        self.shape, self.white, self.resize = shape, white, resize

    def check(self, files: Sequence[Path]) -> int:
        """Read all files to their ends, and return how many images they hold.

        Raises
        ------
        DataError
            If some cannot be read, or do not fit: all are named, each with what is wrong.
        """
        count, wrong, hints = 0, [], dict[str, None]()
        for file in files:
            try:
                count += sum(1 for _ in self.images(file))
            except DataError as error:
                wrong.append(error.message)
                hints[error.hint] = None
        if wrong:
            raise several(wrong, hints)
        return count

    def images(self, file: Path) -> Iterator[tuple[str, Image]]:
        """Yield a file's images, each with its name: that of the file, and a number if there are several."""
        shown = relative(file)
        if not os.path.exists(file):  # not Path.exists, which fails for names that are too long
            raise DataError(f"{shown}: no such file")
        if not os.path.isfile(file):
            raise DataError(f"{shown}: is not a file")
        if file.suffix.lower() == ".npy":
            yield from self._arrays(file, shown)
        else:
            yield shown, self._image(file, shown)

    def _arrays(self, file: Path, shown: str) -> Iterator[tuple[str, Image]]:
        try:
            array: Any = np.lib.format.open_memmap(file, mode="r")  # reads what is asked for, and no pickles
        except OSError as error:
            raise DataError(f"{shown}: cannot be read: {error.strerror or error}") from error
        except Exception as error:  # whatever NumPy meets in a damaged header
            why = str(error)[:200] or type(error).__name__
            raise DataError(f"{shown}: is not a .npy file: {why}") from error
        if not array.size:
            raise DataError(f"{shown}: is {array.shape}, without any image")
        if array.dtype.kind not in "biuf":
            raise DataError(f"{shown}: holds {array.dtype}, not numbers")
        one = [self.shape, *([self.shape[1:]] if self.shape[0] == 1 else [])]
        single = array.shape in one
        if not single and array.shape[1:] not in one:
            raise DataError(f"{shown}: is {array.shape}, the net takes (C, H, W) = {self.shape}")
        for i, image in enumerate(array[None] if single else array):
            name = shown if single else f"{shown}[{i}]"
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
                values = np.array(image, np.float32).reshape(self.shape)
            if not np.isfinite(values).all():
                raise DataError(f"{name}: holds numbers that are not finite")
            yield name, values

    def _image(self, file: Path, shown: str) -> Image:
        C = self.shape[0]
        if self.white is None or C not in MODES:
            why = "what its white is" if C in MODES else f"how it has {C} channels"
            raise DataError(
                f"{shown}: the net was trained on arrays, and of an image file it is not known {why}",
                "Dataset(..., white=1.0) says it in training; a .npy file is taken as it is",
            )
        with quiet(), opened(file, shown) as image:
            return self._fitted(image, shown)

    def _fitted(self, image: Any, shown: str) -> Image:
        """An open image file in the data set's size, channels and units."""
        from PIL import Image as pillow
        from PIL import ImageOps

        C, H, W = self.shape
        size = upright(image)
        if size != (W, H) and not self.resize:
            raise DataError(
                f"{shown}: is {size[0]}x{size[1]} pixels, {self.wanted[0]} {W}x{H}", self.wanted[1]
            )
        image = ImageOps.exif_transpose(image)
        deep = image.mode.startswith("I")  # 16 bits, which Pillow would cut off at 255
        if deep:
            image = pillow.fromarray(np.asarray(image, np.float32))
        else:
            image = image.convert("RGBA") if image.mode == "P" else image
            image = image.convert(MODES[C])
        if image.size != (W, H):
            image = ImageOps.fit(image, (W, H), pillow.Resampling.BICUBIC)
        array = np.asarray(image, np.float32).reshape(H, W, -1).transpose(2, 0, 1)
        assert self.white is not None
        array = array * np.float32(self.white / (65535 if deep else 255))
        if deep and C > 1:
            grey = np.broadcast_to(array, (3, H, W))
            array = grey if C == 3 else np.concatenate([grey, np.full((1, H, W), self.white, np.float32)])
        return np.ascontiguousarray(array)


def several(wrong: Sequence[str], hints: Iterable[str]) -> DataError:
    """One error for several files, of which the first are named; with the hint, if all have the same."""
    more = [f"and {len(wrong) - NAMED} more"] if len(wrong) > NAMED else []
    same = set(hints)
    return DataError("\n  ".join([*wrong[:NAMED], *more]), same.pop() if len(same) == 1 else "")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Pillow's warnings: none, such as of damaged metadata, but an error of too many pixels.

    Warnings belong to the process, so this goes around all threads that read.
    """
    from PIL import Image as pillow

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("error", pillow.DecompressionBombWarning)
        yield


@contextlib.contextmanager
def opened(file: Path, shown: str) -> Iterator[Any]:
    """An image file, of which the header has been read; what goes wrong in the block is a DataError."""
    from PIL import Image as pillow

    try:
        with pillow.open(file, formats=sorted(set(FORMATS.values()))) as image:
            yield image
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        most = pillow.MAX_IMAGE_PIXELS
        raise DataError(f"{shown}: has more than {most:,} pixels, Pillow's limit") from error
    except pillow.UnidentifiedImageError:
        raise DataError(f"{shown}: is not a PNG or JPEG file") from None
    except DataError:
        raise
    except Exception as error:  # whatever a decoder meets in a damaged file
        raise DataError(f"{shown}: cannot be read: {error}") from error


def upright(image: Any) -> tuple[int, int]:
    """An open image file's width and height, as it is meant to be seen."""
    size = image.size
    return size[::-1] if image.getexif().get(0x0112, 1) > 4 else size  # stored on its side

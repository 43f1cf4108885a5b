"""minet.data: readers, data sets and batches, on small files made here."""

from __future__ import annotations

import copy
import gzip
import io
import re
import struct
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pooch
import pytest

from minet.core.errors import MinetError
from minet.data import Batches, DataError, Dataset, Flip, Shift, cifar10, digits, mnist, readers
from minet.data import batches as batches_module
from minet.data.batches import AHEAD

pytestmark = pytest.mark.filterwarnings("error")

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8)
NUMBERS = np.array([3, 1, 4, 1, 5, 9], np.uint8)
TRAIN_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def records(n: int, first_label: int = 0) -> bytes:
    labels = (first_label + np.arange(n, dtype=np.uint8)) % 10
    pixels = np.random.default_rng(first_label).integers(0, 256, (n, 3072), dtype=np.uint8)
    return np.concatenate([labels[:, None], pixels], axis=1).tobytes()


def write_mnist(folder: Path, images: bytes, labels: bytes, suffix: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip(TRAIN_FILES, (images, labels), strict=True):
        (folder / f"{name}{suffix}").write_bytes(content)


def cifar_members() -> dict[str, bytes]:
    members = {f"data_batch_{i}.bin": records(2, i) for i in range(1, 6)}
    return {**members, "test_batch.bin": records(3, 7)}


def write_archive(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def small(n: int = 23, **settings) -> Dataset:
    """A data set with distinct images; H != W, two channels."""
    images = np.random.default_rng(1).integers(0, 256, (n, 2, 5, 7), dtype=np.uint8)
    settings = {"mean": (100, 50), "std": (60, 70), **settings}
    return Dataset(images, np.arange(n) % 4, **settings)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data folder named by MINET_DATA, and no network."""
    monkeypatch.setenv("MINET_DATA", str(tmp_path))
    monkeypatch.setattr(pooch, "retrieve", no_network)
    return tmp_path


def no_network(*args, **kwargs):
    raise ConnectionError("name resolution failed")


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("minet-data")]


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert workers() == []


# -- digits -------------------------------------------------------------------------------------


def test_digits_are_split_by_index_and_normalised_by_the_training_images():
    train, test = digits("train"), digits("test")
    assert (len(train), len(test), train.image_shape, train.classes) == (1438, 359, (1, 8, 8), 10)
    assert train.images.dtype == np.uint8 and train.images.max() == test.images.max() == 16
    pixels = train.images.astype(np.float64)
    np.testing.assert_allclose([pixels.mean(), pixels.std()], [train.mean[0], train.std[0]], atol=5e-4)
    # The first ten images of the file are the digits 0 to 9 in order.
    assert train.labels[:8].tolist() == [0, 1, 2, 3, 5, 6, 7, 8] and test.labels[:2].tolist() == [4, 9]
    assert (np.bincount(train.labels) + np.bincount(test.labels)).tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip


def test_digits_take_settings():
    data = digits("test", flip=True, crop=2, mean=1, std=2, limit=5)
    assert (len(data), data.flip, data.crop, data.mean, data.std) == (5, True, 2, 1, 2)
    assert len(digits("test", limit=10**6)) == 359


@pytest.mark.parametrize("load", [digits, mnist, cifar10])
def test_unknown_split(load):
    with pytest.raises(DataError, match=r"no split 'valid'\n  hint: .*train.*test"):
        load("valid")


@pytest.mark.parametrize("limit", [0, -3, "a", 2.5, True])
def test_limit_must_leave_an_image(limit):
    with pytest.raises(DataError, match=f"limit must be a whole number of at least 1, got {limit!r}"):
        digits(limit=limit)


# -- MNIST: IDX files ---------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [".", "mnist"])
@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_is_read(root, folder, zipped):
    pack, suffix = (gzip.compress, ".gz") if zipped else (bytes, "")
    write_mnist(root / folder, pack(idx(PIXELS)), pack(idx(NUMBERS)), suffix)
    data = mnist("train", limit=5)
    np.testing.assert_array_equal(data.images, PIXELS[:5, None])
    np.testing.assert_array_equal(data.labels, NUMBERS[:5])
    assert data.name == "mnist train" and data.classes == 10
    np.testing.assert_allclose([data.mean[0], data.std[0]], [33.3285, 78.5655], rtol=1e-6)


def test_a_gz_name_on_an_unpacked_file_is_read(root):
    write_mnist(root, idx(PIXELS), idx(NUMBERS), ".gz")
    assert len(mnist()) == 6


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 255]) + content[position + 1 :]


IMAGES, LABELS = idx(PIXELS), idx(NUMBERS)


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (b"\0\0\x0d\x03" + IMAGES[4:], LABELS,
         ["train-images", "begins with 00000803", "00000d03: its numbers are float32", "minet.data.idx"]),
        (LABELS, IMAGES, ["train-images", "begins with 00000803", "00000801", "swapped"]),
        (b"", LABELS, ["train-images", "begins with 00000803", "nothing"]),
        (IMAGES[:9], LABELS, ["train-images", "found 9", "fetch it again"]),
        (IMAGES[:-1], LABELS, ["train-images", "(6, 5, 4) takes 136 bytes, found 135"]),
        (IMAGES + b"\0", LABELS, ["train-images", "takes 136 bytes, found more"]),
        (IMAGES, LABELS[:-2], ["train-labels", "(6,) takes 14 bytes, found 12"]),
        (idx(PIXELS[:0]), idx(NUMBERS[:0]), ["train-images", "empty", "(0, 5, 4)"]),
        (IMAGES, idx(NUMBERS[:4]), ["train-images", "train-labels", "6 images but 4 labels"]),
        (IMAGES, idx(NUMBERS + 5), ["train-labels", "label 10 of image 4 is out of range for 10 classes"]),
        (gzip.compress(IMAGES)[:-12], LABELS, ["train-images", "cut short after"]),
        (gzip.compress(IMAGES)[:5], LABELS, ["train-images", "cut short after 5 bytes"]),
        (flipped(gzip.compress(IMAGES), -8 % len(gzip.compress(IMAGES))), LABELS, ["train-images", "CRC"]),
        (flipped(gzip.compress(IMAGES), 10), LABELS, ["train-images", "cannot be read"]),
    ],
    ids=[
        "magic", "swapped", "no-bytes", "short-header", "truncated", "too-long", "labels-truncated", "empty",
        "counts", "label-range", "gzip-truncated", "gzip-header", "gzip-crc", "gzip-damaged",
    ],
)  # fmt: skip
def test_damaged_mnist_files_are_named(root, images, labels, expected):
    write_mnist(root / "mnist", images, labels)
    with pytest.raises(DataError) as caught:
        mnist("train")
    for words in (*expected, str(root / "mnist"), "hint: "):
        assert words in str(caught.value)


@pytest.mark.parametrize("name", ["train-images.idx3-ubyte", "train-images.idx3-ubyte.gz"])
@pytest.mark.parametrize("folder", [".", "mnist", "MNIST/raw", "raw"])
def test_mnist_is_found_under_other_names(root, folder, name):
    """As other mirrors name the files, and where torchvision keeps them."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / name).write_bytes(IMAGES)
    (root / folder / name.replace("images", "labels").replace("idx3", "idx1")).write_bytes(LABELS)
    np.testing.assert_array_equal(mnist().images, PIXELS[:, None])


class Counted(gzip.GzipFile):
    """Counts the bytes it has unpacked."""

    unpacked = 0

    def read(self, size=-1):
        part = super().read(size)
        Counted.unpacked += len(part)
        return part


@pytest.mark.parametrize("header", [IMAGES[:16], IMAGES[:4] + b"\xff" * 12])
def test_what_the_header_says_bounds_what_is_unpacked(root, monkeypatch, header):
    """A few bytes of gzip may unpack to gigabytes; a header may promise more than there is."""
    monkeypatch.setattr(readers.gzip, "GzipFile", Counted)
    monkeypatch.setattr(Counted, "unpacked", 0)
    write_mnist(root, gzip.compress(header + bytes(1 << 24)), LABELS)
    size = 1 << 24 if header[4:5] == b"\xff" else 121
    with pytest.raises(DataError, match=f"train-images.*bytes, found {'more' if size == 121 else size + 16}"):
        mnist()
    assert Counted.unpacked == 16 + size


def test_a_cifar10_file_is_unpacked_no_further_than_its_format_allows(root, monkeypatch):
    monkeypatch.setattr(readers.gzip, "GzipFile", Counted)
    monkeypatch.setattr(Counted, "unpacked", 0)
    most = readers.CIFAR10_MOST
    (root / "test_batch.bin").write_bytes(gzip.compress(bytes(most + 3073), 1))
    with pytest.raises(DataError, match=r"test_batch.bin: longer than the 30730000 bytes of a CIFAR-10 file"):
        cifar10("test")
    assert Counted.unpacked == most + 1
    (root / "test_batch.bin").unlink()
    content = {"cifar-10-batches-bin/data_batch_1.bin": bytes(most + 1)}
    write_archive(root / "cifar-10-binary.tar.gz", content)
    with pytest.raises(DataError, match=r"data_batch_1.bin has 30730001 bytes, more than 30730000"):
        cifar10("test")


def test_files_and_folders_without_permission_are_named_as_such(root, monkeypatch):
    def denied(path, *args, **options):
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **options)

    write_mnist(root, IMAGES, LABELS)
    name, real = "train-labels-idx1-ubyte", Path.open
    monkeypatch.setattr(Path, "open", denied)  # not chmod, which does not stop root
    with pytest.raises(DataError, match=rf"{name}: cannot be read: Permission denied\n  hint: chmod u\+rX /"):
        mnist()
    name, real = "cifar-10-binary.tar.gz", Path.is_file
    monkeypatch.setattr(Path, "is_file", denied)
    with pytest.raises(DataError, match=f"{root}: cannot be read: Permission denied"):
        cifar10()


def test_an_archive_that_may_not_be_read_is_not_called_damaged(root, monkeypatch):
    def denied(*args):
        raise PermissionError(13, "Permission denied", str(root / "cifar-10-binary.tar.gz"))

    write_archive(root / "cifar-10-binary.tar.gz", {})
    monkeypatch.setattr(tarfile, "open", denied)
    with pytest.raises(DataError, match=r"cifar-10-binary.tar.gz: cannot be read: Permission denied"):
        cifar10()


def test_a_missing_cifar10_batch_is_named(root):
    for name, content in cifar_members().items():
        if name != "data_batch_3.bin":
            (root / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        cifar10("train")
    assert f"{root}/data_batch_3.bin: not found, though data_batch_1.bin is there\n  hint: " in str(
        caught.value
    )
    assert len(cifar10("test")) == 3


def test_missing_folder(root, monkeypatch):
    monkeypatch.setenv("MINET_DATA", str(root / "typo"))
    for load in (mnist, cifar10):
        with pytest.raises(DataError, match=r"typo: no such data folder\n  hint: .*--data-dir"):
            load()
    assert not (root / "typo").exists()


# -- downloads ----------------------------------------------------------------------------------


def test_mnist_downloads_what_is_missing_by_its_hash(root, monkeypatch):
    (root / "train-images-idx3-ubyte").write_bytes(IMAGES)
    asked = []

    def retrieve(url, known_hash, fname, path):
        asked.append((url, known_hash))
        target = Path(path) / fname
        target.parent.mkdir()
        target.write_bytes(gzip.compress(LABELS))
        return str(target)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(mnist("train")) == 6
    address = "https://ossci-datasets.s3.amazonaws.com/mnist/train-labels-idx1-ubyte.gz"
    assert asked == [(address, "md5:d53e105ee54ea40749a09fcbcd1e9432")]
    monkeypatch.setattr(pooch, "retrieve", no_network)
    assert len(mnist("train")) == 6  # found again in the sub-folder


def test_all_mnist_files_are_pinned(root, monkeypatch):
    asked = {}

    def retrieve(url, known_hash, fname, path):
        asked[fname] = known_hash
        content = IMAGES if "images" in fname else LABELS
        (root / fname).write_bytes(content)
        return root / fname

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    mnist("train"), mnist("test")
    assert asked == {
        "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
    }


def test_the_wrong_file_from_the_network_is_refused(tmp_path, monkeypatch):
    def served(self, url, output_file, *args, **kwargs):
        Path(output_file).write_bytes(gzip.compress(IMAGES))

    monkeypatch.setenv("MINET_DATA", str(tmp_path))
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", served)
    with pytest.raises(DataError, match="f68b3c2dcbeaaa9fbdd348bbdeb94873"):
        mnist("train")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("load", "name"), [(mnist, "train-images-idx3-ubyte.gz"), (cifar10, "cifar-10-binary")]
)
def test_without_network_the_error_names_where_it_looked_and_what_it_tried(root, load, name):
    with pytest.raises(DataError) as caught:
        load("train")
    message = str(caught.value)
    for words in (name, "looked in: ", str(root), "tried: https://", "name resolution failed", "--data-dir"):
        assert words in message


def test_a_failed_download_prints_nothing_itself_and_leaves_no_folder(tmp_path, monkeypatch, capfd):
    def fails(self, url, output_file, *args, **kwargs):
        raise ConnectionError("name resolution failed")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", fails)
    monkeypatch.delenv("MINET_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    with pytest.raises(DataError, match="name resolution failed"):
        mnist("train")
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_without_a_data_folder_the_users_cache_is_used(tmp_path, monkeypatch):
    monkeypatch.delenv("MINET_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / project)
    monkeypatch.setattr(pooch, "retrieve", no_network)
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "minet" / "mnist"))):
        mnist("train")
    write_mnist(tmp_path / "minet" / "mnist", IMAGES, LABELS)
    assert len(mnist("train")) == 6


# -- CIFAR-10 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [".", "cifar10", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"])
def test_cifar10_is_read_in_the_order_of_its_files(root, folder):
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, content in cifar_members().items():
        (root / folder / name).write_bytes(content)
    train, test = cifar10("train"), cifar10("test", limit=2)
    assert train.labels.tolist() == [1, 2, 2, 3, 3, 4, 4, 5, 5, 6] and test.labels.tolist() == [7, 8]
    assert train.images.shape == (10, 3, 32, 32)
    planes = np.frombuffer(records(2, 3), np.uint8).reshape(2, 3073)[:, 1:]
    np.testing.assert_array_equal(train.images[4:6].reshape(2, 3072), planes)
    np.testing.assert_allclose(train.mean, np.array([0.4914, 0.4822, 0.4465]) * 255, rtol=1e-6)
    np.testing.assert_allclose(train.std, np.array([0.2470, 0.2435, 0.2616]) * 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (records(2)[:-1], ["expected a multiple of 3073 bytes, found 6145"]),
        (b"", ["empty"]),
        (records(2)[:3073] + b"\x0b" + bytes(3072), ["label 11 of image 1 is out of range for 10 classes"]),
    ],
    ids=["size", "empty", "label-range"],
)
def test_damaged_cifar10_files_are_named(root, content, expected):
    (root / "test_batch.bin").write_bytes(content)
    with pytest.raises(DataError) as caught:
        cifar10("test")
    for words in (*expected, str(root / "test_batch.bin"), "hint: "):
        assert words in str(caught.value)


def test_cifar10_is_downloaded_by_its_hash_and_unpacked_into_its_folder_alone(root, monkeypatch):
    asked = []

    def retrieve(url, known_hash, fname, path):
        asked.append((url, known_hash))
        members = {f"cifar-10-batches-bin/{name}": content for name, content in cifar_members().items()}
        write_archive(Path(path) / fname, {"../escaped.bin": b"x", "other/readme": b"x", **members})
        return str(Path(path) / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(cifar10("train")) == 10 and len(cifar10("test")) == 3
    address = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    assert asked == [(address, "md5:c32a1d4ab5d03f1284b67883e8d87530")]
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    unpacked = {f"cifar10/cifar-10-batches-bin/{name}" for name in cifar_members()}
    assert files == unpacked | {"cifar10/cifar-10-binary.tar.gz"}


def test_an_existing_archive_is_unpacked_without_a_network(root):
    members = {f"cifar-10-batches-bin/{name}": content for name, content in cifar_members().items()}
    write_archive(root / "cifar-10-binary.tar.gz", members)
    assert len(cifar10("test")) == 3


@pytest.mark.parametrize("damage", ["not-an-archive", "truncated", "incomplete", "folder-for-a-file"])
def test_damaged_archives_are_named_and_leave_no_truncated_file(root, damage):
    archive = root / "cifar-10-binary.tar.gz"
    write_archive(archive, {"cifar-10-batches-bin/data_batch_1.bin": records(2)})
    if damage == "not-an-archive":
        archive.write_bytes(b"<html>moved</html>")
    elif damage == "truncated":
        archive.write_bytes(archive.read_bytes()[:3000])
    elif damage == "folder-for-a-file":
        with tarfile.open(archive, "w:gz") as tar:
            info = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
    with pytest.raises(DataError, match=r"cifar-10-binary.tar.gz: cannot be unpacked: .*\n  hint: "):
        cifar10("train")
    for path in root.rglob("*.bin"):
        assert path.stat().st_size == 2 * 3073


# -- Dataset ------------------------------------------------------------------------------------


def test_own_data():
    images = np.arange(24.0).reshape(2, 3, 4)
    data = Dataset(images, [1, 0], mean=2, std=4, name="mine")
    assert (len(data), data.image_shape, data.classes) == (2, (1, 3, 4), 2)
    assert data.images.dtype == np.float32 and data.labels.dtype == np.int64
    assert data.mean.tolist() == [2] and data.std.tolist() == [4]
    assert repr(data) == "Dataset('mine', 2 images (1, 3, 4) float32, 2 classes)"
    np.testing.assert_array_equal(data.normalize(data.images)[:, 0], (images - 2) / 4)


def test_own_data_of_the_right_kind_is_not_copied():
    for dtype in (np.uint8, np.float32):
        images = np.zeros((2, 3, 4, 5), dtype)
        assert np.shares_memory(Dataset(images, [0, 0]).images, images)


def test_own_data_in_any_memory_layout():
    images = np.arange(48, dtype=np.uint8).reshape(2, 3, 4, 2).transpose(3, 0, 1, 2)
    data = Dataset(images, [0, 1])
    np.testing.assert_array_equal(data.images, images)
    assert data.images.flags.c_contiguous


@pytest.mark.parametrize(
    ("shape", "kept"),
    [((2,), (2, 1, 1, 1)), ((2, 5), (2, 5, 1, 1)), ((2, 3, 4), (2, 1, 3, 4)), ((2, 5, 3, 4), (2, 5, 3, 4))],
)
def test_targets_are_laid_out_as_a_nets_outputs(shape, kept):
    images, targets = np.zeros((2, 3, 4)), np.arange(np.prod(shape)).reshape(shape) / 2
    data = Dataset(images, targets, name="mine")
    assert data.labels.dtype == np.float32 and data.labels.shape == kept and data.classes is None
    np.testing.assert_array_equal(data.labels.ravel(), targets.ravel())
    assert repr(data) == f"Dataset('mine', 2 images (1, 3, 4) float32, targets {kept[1:]})"


def test_whole_numbers_are_classes_only_if_there_is_one_for_each_image():
    images = np.zeros((2, 3, 4))
    assert Dataset(images, np.array([3, 0], np.uint8)).classes == 4
    data = Dataset(images, np.eye(2, dtype=np.uint8), flip=True, crop=1)
    assert data.classes is None and data.labels.dtype == np.int64 and data.labels.shape == (2, 2, 1, 1)


def test_labels_may_be_unknown_and_of_maps():
    images = np.zeros((2, 3, 4))
    assert Dataset(images, [2, -1]).classes == 3 and Dataset(images, [-1, -1]).classes == 1
    maps = np.arange(-1, 23).reshape(2, 3, 4)
    data = Dataset(images, maps)
    assert data.classes is None and data.labels.shape == (2, 1, 3, 4) and data.labels.dtype == np.int64
    assert repr(Dataset(images, maps, classes=23)).endswith("2 images (1, 3, 4) float32, 23 classes)")
    with pytest.raises(DataError, match="label 22 of image 1 is out of range for 22 classes"):
        Dataset(images, maps, classes=22)
    (batch,) = (labels for _, labels in Batches(data, 2, train=False).epoch(0))
    np.testing.assert_array_equal(batch, np.moveaxis(maps, 0, -1)[np.newaxis])


def with_value(value: float) -> np.ndarray:
    images = np.zeros((4, 2, 3, 3))
    images[2, 1, 0, 2] = images[3, 0, 0, 0] = value
    return images


GREY = np.zeros((3, 4, 5), np.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "settings", "expected"),
    [
        (with_value(np.nan), [0] * 4, {}, "NaN in the data: image 2, channel 1, row 0, column 2"),
        (with_value(-np.inf), [0] * 4, {}, "infinity in the data: image 2"),
        (with_value(1e39), [0] * 4, {}, "infinity in the data: image 2"),
        (GREY[0], [0] * 4, {}, r"images must be numbers \(N, C, H, W\).*got uint8 \(4, 5\)"),
        (GREY.astype(str), [0] * 3, {}, "images must be numbers"),
        (GREY[:0], [], {}, "the data set is empty"),
        (GREY[:, :0], [0] * 3, {}, "the data set is empty"),
        (GREY, [0, 1], {}, "3 images but 2 labels"),
        (GREY, [], {}, "3 images but 0 labels"),
        (GREY, ["a", "b", "c"], {}, r"labels must be numbers, \(N,\) or \(N, K, P, Q\), got <U1 \(3,\)"),
        (GREY, [True, False, True], {}, r"labels must be numbers.*, got bool \(3,\)\n.*astype\(float\)"),
        (GREY, np.zeros((3, 1, 1, 1, 1)), {}, "labels must be numbers"),
        (GREY, np.zeros((3, 0)), {}, "labels must be numbers"),
        (GREY, 3, {}, "3 images but 0 labels"),
        (GREY, [0.0, np.nan, 2.0], {}, "NaN in the targets: image 1, channel 0, row 0, column 0"),
        (GREY, [[0, 1], [2, 1e39], [0, 0]], {}, "infinity in the targets: image 1, channel 1"),
        (GREY, [0.0, 1.0, 2.0], {"classes": 3}, "classes=3 is for class numbers, but these are targets"),
        (GREY, GREY / 2, {"flip": True}, r"Flip\(\) moves the images, but not their targets \(1, 4, 5\)"),
        (GREY, GREY[:, None], {"crop": 1}, "Shift.* moves the images, but not their targets"),
        (GREY, [0, 7, 9], {"classes": 7}, "label 7 of image 1 is out of range for 7 classes"),
        (GREY, [0, 1, -2], {}, r"label -2 of image 2 is out of range for 2 classes\n.*, and -1 is ignored"),
        (GREY, np.eye(3, dtype=int), {"classes": 3}, "classes=3 is for class numbers, but these are targets"),
        (GREY, [0, 1, 1], {"mean": (1, 2)}, r"mean=\(1, 2\) does not fit images of 1 channel"),
        (GREY, [0, 1, 1], {"mean": np.nan}, "mean=nan does not fit"),
        (GREY, [0, 1, 1], {"std": [[1]]}, "std=.* does not fit"),
        (GREY, [0, 1, 1], {"std": 0}, "std must be positive, got 0"),
        (GREY, [0, 1, 1], {"crop": 4}, r"crop=4 does not fit images of shape \(1, 4, 5\)"),
        (GREY, [0, 1, 1], {"crop": -1}, "crop=-1 does not fit"),
        (GREY, [0, 1, 1], {"crop": 0.5}, "crop=0.5 does not fit"),
        (GREY, [0, 1, 1], {"crop": None}, "crop=None does not fit"),
        (GREY, [0, 1, 1], {"crop": "2"}, "crop='2' does not fit"),
        (GREY, [0, 1, 1], {"flip": "no"}, "flip must be True or False, got 'no'"),
        (GREY, [0, 1, 1], {"flip": 0.3}, "flip must be True or False, got 0.3"),
        (GREY, [0, 1, 1], {"classes": {"cat", "dog"}}, "classes is a set, which has no order"),
        (np.ma.masked_equal(GREY, 0), [0, 1, 1], {}, "the images are a masked array"),
        (GREY, np.ma.masked_equal([0, 1, 1], 0), {}, "the labels are a masked array"),
        ([GREY[0], GREY[0, :3]], [0, 1], {}, "the images do not fit into one array: "),
        (GREY, [[0], [0, 1], [1]], {}, "the labels do not fit into one array: "),
    ],
)  # fmt: skip
def test_bad_data_are_refused(images, labels, settings, expected):
    with pytest.raises(DataError, match=f"^mine: {expected}") as caught:
        Dataset(images, labels, name="mine", **settings)
    assert isinstance(caught.value, MinetError) and caught.value.hint


def test_settings_that_are_right_all_the_same():
    full = np.ma.masked_array(GREY, mask=False)
    assert Dataset(full, [0, 1, 1], flip=np.bool_(True), crop=np.int64(2)).augment == (Shift(2), Flip())


@pytest.mark.parametrize("name", ["flip", "crop", "augment", "mean", "std"])
def test_settings_are_fixed_when_a_set_is_made(name):
    data = Dataset(GREY, [0, 1, 1], name="mine")
    for one in (data, data[:2], data.replaced(1, 2), copy.deepcopy(data)):
        before = getattr(one, name)
        with pytest.raises(
            DataError, match=f"^mine.*: {name} is fixed when a data set is made\n  hint: data\\."
        ):
            setattr(one, name, 1)
        assert getattr(one, name) is before
        one.name = "another"


@pytest.mark.parametrize("method", ["__getitem__", "normalize"])
def test_a_method_that_is_never_called_is_refused(method):
    data = type("Noisy", (Dataset,), {method: lambda self, images: images})(GREY, [0, 1, 1], name="mine")
    with pytest.raises(
        DataError, match=f"mine: Noisy.{method} is never called in training.*\n  hint: give Data"
    ):
        Batches(data, 2)
    assert len(Batches(type("Named", (Dataset,), {"source": "here"})(GREY, [0, 1, 1]), 3)) == 1


# -- Batches ------------------------------------------------------------------------------------


def oracle(data: Dataset, index: int, down: int, right: int, mirrored: int) -> np.ndarray:
    """One image as it should enter the net: padded, cropped, mirrored, in plain NumPy."""
    c, (_, h, w) = data.crop, data.image_shape
    image = (data.images[index].astype(np.float32) - data.mean[:, None, None]) / data.std[:, None, None]
    padded = np.pad(image, ((0, 0), (c, c), (c, c)))
    cropped = padded[:, c + down : c + down + h, c + right : c + right + w]
    return cropped[:, :, ::-1] if mirrored else cropped


def by_image(batches: Batches, e: int = 0) -> dict[int, np.ndarray]:
    """The images of an epoch as they enter the net, by index."""
    order = batches._plan(e).order
    columns = np.concatenate([x for x, _ in batches.epoch(e)], axis=3)
    return {int(i): columns[..., k] for k, i in enumerate(order[: columns.shape[3]])}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pixels", [np.uint8, np.float32])
@pytest.mark.parametrize("batch", [1, 17, 23])
def test_a_batch_is_the_normalised_images_with_n_innermost(dtype, pixels, batch):
    data = small()
    data = Dataset(data.images.astype(pixels), data.labels, mean=data.mean, std=data.std)
    batches = Batches(data, batch, seed=5, dtype=dtype)
    order = batches._plan(3).order
    count = 0
    for k, (x, labels) in enumerate(batches.epoch(3)):
        chosen = order[k * batch : (k + 1) * batch]
        assert x.shape == (2, 5, 7, batch) and x.dtype == dtype and x.flags.c_contiguous
        assert labels.shape == (batch,) and labels.dtype == np.int64
        expected = data.normalize(data.images[chosen]).transpose(1, 2, 3, 0)
        np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(labels, data.labels[chosen])
        count += 1
    assert count == len(batches) == 23 // batch


@pytest.mark.parametrize(("flip", "crop"), [(True, 0), (False, 1), (True, 4)])
def test_augmentation_agrees_with_padding_and_slicing(flip, crop):
    data = small(200, flip=flip, crop=crop)
    batches = Batches(data, 100, seed=2)
    plan = batches._plan(1)
    x = np.concatenate([x for x, _ in batches.epoch(1)], axis=3)
    for k, (index, move) in enumerate(zip(plan.order, plan.moves, strict=True)):
        np.testing.assert_allclose(x[..., k], oracle(data, index, *move), rtol=1e-6, atol=1e-6)
    assert set(plan.moves[:, 0]) == set(plan.moves[:, 1]) == set(range(-crop, crop + 1))
    assert set(plan.moves[:, 2]) == ({0, 1} if flip else {0})


def test_augmentation_is_uniform_and_independent():
    moves = Batches(small(5000, flip=True, crop=1), 1)._plan(0).moves
    counts = np.histogramdd(moves, bins=(3, 3, 2))[0] / len(moves)
    np.testing.assert_allclose(counts, 1 / 18, atol=0.015)  # about 4.6 standard errors


def test_evaluation_keeps_the_order_and_fills_the_last_batch():
    data = small(flip=True, crop=2)
    batches = Batches(data, 10, seed=9, train=False)
    parts = list(batches.epoch(4))
    assert len(parts) == len(batches) == 3
    labels = np.concatenate([labels for _, labels in parts])
    assert labels.tolist() == [*data.labels, *[-1] * 7]
    x = np.concatenate([x for x, _ in parts], axis=3)
    expected = data.normalize(np.concatenate([data.images, data.images[:7]])).transpose(1, 2, 3, 0)
    np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-6)


def test_evaluation_in_a_batch_larger_than_the_data_set():
    data = small(3)
    [(x, labels)] = Batches(data, 8, train=False).epoch(0)
    assert labels.tolist() == [0, 1, 2, -1, -1, -1, -1, -1]
    np.testing.assert_array_equal(x[..., 3:6], x[..., :3])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_targets_come_with_their_images_as_k_p_q_n(shape, dtype):
    images = small(7).images
    targets = np.arange(7.0 * np.prod(shape)).reshape(7, *shape)
    data = Dataset(images, targets)
    batches = Batches(data, 3, seed=1, dtype=dtype)
    for k, (_, labels) in enumerate(batches.epoch(0)):
        chosen = data.labels[batches._plan(0).order[3 * k : 3 * k + 3]]
        assert labels.dtype == dtype and labels.flags.c_contiguous and labels.ndim == 4
        np.testing.assert_array_equal(labels, chosen.transpose(1, 2, 3, 0))
    *_, (_, last) = Batches(data, 3, train=False, dtype=dtype).epoch(0)
    np.testing.assert_array_equal(last[..., 0], data.labels[6])
    assert np.isnan(last[..., 1:]).all()
    whole = Dataset(images, np.eye(7, dtype=int))
    *_, (_, last) = Batches(whole, 3, train=False, dtype=dtype).epoch(0)
    assert last.dtype == np.int64 and last[..., 1:].tolist() == [[[[-1, -1]]]] * 7


def test_each_epoch_shows_each_image_once_in_a_new_order():
    batches = Batches(small(), 23)
    orders = [batches._plan(e).order for e in range(3)]
    assert all(sorted(order) == list(range(23)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert not np.array_equal(Batches(small(), 23, seed=1)._plan(0).order, orders[0])
    # Swapping seed and epoch gives another draw, too.
    assert not np.array_equal(Batches(small(), 23, seed=1)._plan(0).order, orders[1])


def test_the_draw_does_not_depend_on_the_batch_size():
    data = small(24, flip=True, crop=2)
    wide, narrow = by_image(Batches(data, 12, seed=3)), by_image(Batches(data, 5, seed=3))
    assert set(narrow) < set(wide) and len(narrow) == 20
    for index, image in narrow.items():
        np.testing.assert_array_equal(image, wide[index])


def test_the_draw_of_an_image_does_not_depend_on_the_other_images():
    many, few = small(40, flip=True, crop=2), small(40, flip=True, crop=2)
    few.images, few.labels = few.images[:9], few.labels[:9]
    a, b = by_image(Batches(many, 40)), by_image(Batches(few, 9))
    assert [index for index in a if index < 9] == list(b)
    for index, image in b.items():
        np.testing.assert_array_equal(image, a[index])


def test_the_order_does_not_depend_on_the_augmentation():
    plain, moved = (Batches(small(**s), 5)._plan(0) for s in ({}, {"flip": True, "crop": 2}))
    np.testing.assert_array_equal(plain.order, moved.order)


def test_the_draw_is_pinned():
    """A checkpoint resumes in the same order after an upgrade, on any machine."""
    plan = Batches(small(8, flip=True, crop=2), 8, seed=1)._plan(2)
    assert plan.order.tolist() == [1, 4, 0, 2, 3, 7, 5, 6]
    assert plan.moves.tolist() == [
        [2, -2, 1],
        [1, 0, 0],
        [-2, 1, 1],
        [2, 1, 0],
        [1, -1, 1],
        [0, 2, 1],
        [-2, 2, 0],
        [2, 0, 0],
    ]


def test_an_epoch_can_be_resumed_and_left():
    batches = Batches(small(40, flip=True, crop=2), 4, seed=1)
    whole = list(batches.epoch(2))
    for x, _ in batches.epoch(2):  # leaves at once
        np.testing.assert_array_equal(x, whole[0][0])
        break
    for start in (0, 3, 9, 10):
        rest = list(batches.epoch(2, start))
        assert len(rest) == 10 - start
        for (x, labels), (x0, labels0) in zip(rest, whole[start:], strict=True):
            np.testing.assert_array_equal(x, x0)
            np.testing.assert_array_equal(labels, labels0)


def test_batches_stay_valid_after_the_next():
    batches = Batches(small(40), 4)
    kept = list(batches.epoch(0))
    for (x, _), (again, _) in zip(kept, batches.epoch(0), strict=True):
        np.testing.assert_array_equal(x, again)


def test_the_worker_ends_with_the_loop():
    batches = Batches(small(40), 4)
    for _ in batches.epoch(0):
        assert 1 <= len(workers()) <= batches_module.WORKERS
    assert workers() == []
    for _ in batches.epoch(0):
        break
    assert workers() == []
    with pytest.raises(ZeroDivisionError):
        for _ in batches.epoch(0):
            raise ZeroDivisionError
    assert workers() == []


def test_the_worker_is_at_most_two_batches_ahead(monkeypatch):
    submitted = []

    class Counting(ThreadPoolExecutor):
        def submit(self, make, plan, i):
            submitted.append(i)
            return super().submit(make, plan, i)

    monkeypatch.setattr("minet.data.batches.ThreadPoolExecutor", Counting)
    for k, _ in enumerate(Batches(small(40), 4).epoch(0)):
        assert submitted == list(range(min(k + 1 + AHEAD, 10)))


def test_errors_in_the_worker_are_raised_in_the_loop():
    batches = Batches(small(40), 4)
    make = batches._make

    def fail(plan, i):
        if i == 2:
            raise RuntimeError("worker")
        return make(plan, i)

    batches._make = fail
    seen = 0
    with pytest.raises(RuntimeError, match="worker"):
        for _ in batches.epoch(0):
            seen += 1
    assert seen == 2


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"batch": 24}, "a batch of 24 is larger than the data set of 23 images"),
        ({"batch": 0}, "cannot make batches of 0 images"),
        ({"batch": "8"}, "cannot make batches of '8' images"),
        ({"batch": 4, "seed": 1.7}, "seed must be a whole number, got 1.7"),
        ({"batch": 4, "dtype": "int32"}, "cannot make batches of int32"),
    ],
)
def test_bad_batches_are_refused(settings, expected):
    with pytest.raises(DataError, match=f"^data set: {expected}\n  hint: "):
        Batches(small(), **settings)


@pytest.mark.parametrize("start", [-1, 6])
def test_a_start_outside_the_epoch_is_refused(start):
    with pytest.raises(DataError, match=f"cannot start from batch {start}\n  hint: an epoch has 5 batches"):
        list(Batches(small(), 4).epoch(0, start))


def test_a_cifar10_batch_that_is_shorter_than_the_others_is_refused(root):
    for i in range(1, 6):
        (root / f"data_batch_{i}.bin").write_bytes(records(2 if i == 3 else 4))
    with pytest.raises(DataError, match=r"data_batch_3.bin: holds 2 images, others hold 4"):
        cifar10("train")


def test_mnist_of_the_official_size_has_the_official_content(root, monkeypatch):
    from hashlib import md5

    from minet.data import sources

    images, labels = np.zeros((3, 28, 28), np.uint8), np.arange(3, dtype=np.uint8)
    sums = [md5(idx(array), usedforsecurity=False).hexdigest() for array in (images, labels)]
    monkeypatch.setitem(sources.MNIST_CONTENT, "train", (3, *sums))
    write_mnist(root, idx(images), idx(labels))
    assert len(mnist("train")) == 3
    images[1, 2, 3] = 1
    write_mnist(root, idx(images), idx(labels))
    with pytest.raises(
        DataError, match=r"train-images.*: has the shape of the official file, \(3, 28, 28\), but"
    ):
        mnist("train")

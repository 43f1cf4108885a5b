"""Arrays, IDX pairs and .npz files: every type and layout; damaged and hostile ones are refused."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest

from minet import data
from minet.data import Crop, DataError, npz_reader, progress

RNG = np.random.default_rng(11)
IMAGES = RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8)
COLOURS = RNG.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9], np.uint8)
CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx(array, kind="u1"):
    header = bytes([0, 0, CODES[kind], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(f">{kind}").tobytes()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINET_DATA", raising=False)
    return tmp_path


# -- arrays -------------------------------------------------------------------------------------


def test_arrays_are_normalised_if_they_are_bytes():
    found = data.arrays(IMAGES, LABELS, flip=True, augment=[Crop(3)], classes=12, name="mine")
    np.testing.assert_array_equal(found.images, IMAGES[:, None])
    assert (found.classes, found.image_shape, found.name, found.flip) == (12, (1, 3, 3), "mine", True)
    assert (found.mean[0], found.std[0]) == (127.5, 63.75)
    real = data.arrays(IMAGES / 255, LABELS, white=1.0)
    assert (real.mean[0], real.std[0], real.white) == (0, 1, 1)
    own = data.arrays(IMAGES, LABELS, mean=1, std="measured")
    assert own.mean[0] == 1 and own.std[0] == pytest.approx(IMAGES.std())


def test_channels_last_and_labels_in_a_column():
    found = data.arrays(COLOURS, LABELS[:, None], channels_last=True)
    np.testing.assert_array_equal(found.images, COLOURS.transpose(0, 3, 1, 2))
    assert found.labels.tolist() == LABELS.tolist() and found.images.flags.c_contiguous
    assert data.arrays(IMAGES, LABELS[:, None] / 2).labels.shape == (6, 1, 1, 1)
    assert data.arrays(IMAGES, np.eye(6, dtype=int)).classes is None
    with pytest.raises(DataError, match=r"channels_last is for images \(N, H, W, C\), got \(6, 5, 4\)"):
        data.arrays(IMAGES, LABELS, channels_last=True)
    with pytest.raises(DataError, match="mine: 5 images but 6 labels"):
        data.arrays(IMAGES[:5], LABELS, name="mine")


# -- IDX ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_pairs_of_every_type(here, kind, zipped):
    pack, end = (gzip.compress, ".gz") if zipped else (bytes, "")
    pixels = (IMAGES // 2).astype(kind)
    (here / f"images{end}").write_bytes(pack(idx(pixels, kind)))
    (here / f"labels{end}").write_bytes(pack(idx(LABELS, "i2")))
    found = data.idx("images", "labels")
    np.testing.assert_array_equal(found.images, pixels[:, None].astype(np.float32))
    assert found.images.dtype == (np.uint8 if kind == "u1" else np.float32)
    assert found.labels.tolist() == LABELS.tolist() and found.name == f"images{end}"
    assert found.mean[0] == (127.5 if kind == "u1" else 0)


def test_qmnist_emnist_and_images_with_channels(here, monkeypatch):
    table = RNG.integers(0, 100, (6, 8))
    table[:, 0] = LABELS
    (here / "qmnist-labels").write_bytes(idx(table, "i4"))
    (here / "letters").write_bytes(idx(LABELS))
    (here / "images").write_bytes(idx(IMAGES))
    (here / "colours").write_bytes(idx(COLOURS.transpose(0, 3, 1, 2)))
    assert data.idx("images", "qmnist-labels", column=0).labels.tolist() == LABELS.tolist()
    letters = data.idx(
        "images", "letters", first=1, transpose=True, classes=tuple("abcdefghi"), name="emnist"
    )
    assert letters.labels.tolist() == [2, 0, 3, 0, 4, 8] and letters.names == tuple("abcdefghi")
    np.testing.assert_array_equal(letters.images[:, 0], IMAGES.transpose(0, 2, 1))
    assert letters.name == "emnist" and data.idx("colours", "letters").image_shape == (3, 5, 4)
    monkeypatch.chdir("/")
    monkeypatch.setenv("MINET_DATA", str(here))
    assert len(data.idx("images", "letters")) == 6
    with pytest.raises(DataError, match=r"labels \(6, 8\)\n  hint: column=0 takes the first"):
        data.idx("images", "qmnist-labels")
    for file, column in (("qmnist-labels", 8), ("qmnist-labels", "a"), ("letters", 0)):
        with pytest.raises(DataError, match=f"{file}: has no column {column!r}"):
            data.idx("images", file, column=column)
    with pytest.raises(DataError, match="letters: holds labels below first=2"):
        data.idx("images", "letters", first=2)
    with pytest.raises(DataError, match="first must be a whole number, got '1'"):
        data.idx("images", "letters", first="1")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is not an IDX file: it begins with nothing"), (b"\0\0\x08", "is not an IDX file"),
        (b"PK\3\4" + bytes(40), "is not an IDX file: it begins with 504b0304"),
        (b"\0\0\x0a\x01\0\0\0\1\0", "is not an IDX file"), (b"\0\0\x08\0", "is not an IDX file"),
        (idx(IMAGES)[:-1], r"shape \(6, 5, 4\) takes 136 bytes, found 135"),
        (idx(IMAGES, "f8")[:-1], r"shape \(6, 5, 4\) takes 976 bytes, found 975"),
        (idx(IMAGES) + b"\0", "takes 136 bytes, found more"),
        (b"\0\0\x0e\xff" + b"\xff" * 1020 + b"\0", r"takes \d+ bytes, found 1025"),
        (idx(IMAGES[:0]), "the data set is empty"),
        (gzip.compress(idx(IMAGES))[:-9], "cut short after"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)  # fmt: skip
def test_damaged_idx_files(here, content, expected):
    (here / "images").write_bytes(content)
    (here / "labels").write_bytes(idx(LABELS))
    with pytest.raises(DataError, match=f"(?s)images: .*{expected}.*\n  hint: "):
        data.idx("images", "labels")
    with pytest.raises(DataError, match="nothing: no such file or folder"):
        data.idx("labels", "nothing")


def test_a_long_file_is_shown_on_a_terminal(here, monkeypatch, terminal):
    (here / "images").write_bytes(idx(IMAGES))
    (here / "labels").write_bytes(idx(LABELS))
    data.idx("images", "labels")
    assert terminal.getvalue() == ""
    monkeypatch.setattr("minet.data.readers.BYTES", 100)
    data.idx("images", "labels")
    assert "reading images" in terminal.getvalue() and "reading labels" not in terminal.getvalue()


def test_a_long_array_is_shown_on_a_terminal(monkeypatch, terminal):
    np.savez("set.npz", images=np.zeros((40, 200, 200), np.uint8), labels=np.zeros(40, int))
    monkeypatch.setattr(npz_reader, "BYTES", 1 << 20)
    assert data.npz("set.npz").images.shape == (40, 1, 200, 200)
    assert "reading set.npz: images" in terminal.getvalue()


def test_names_are_no_markup(terminal):
    with progress.reading("[red]x{y}[/]", 3, 1) as show:
        show(3)
    assert "reading [red]x{y}[/]" in terminal.getvalue()


# -- .npz ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    ("names", "split"),
    [
        (("x_train", "y_train"), "train"), (("x_test", "y_test"), "test"),
        (("val_images", "val_labels"), "val"),
        (("images", "labels"), None), (("X", "y"), None),
    ],
)  # fmt: skip
def test_npz_files(here, save, names, split):
    arrays = {names[0]: COLOURS, names[1]: LABELS[:, None].astype(np.int64), "more": np.array(["text"])}
    save("set.npz", **arrays)
    found = data.npz("set.npz", split, channels_last=True, classes=10)
    np.testing.assert_array_equal(found.images, COLOURS.transpose(0, 3, 1, 2))
    assert found.labels.tolist() == LABELS.tolist() and found.classes == 10
    assert found.name == f"set.npz {split}".removesuffix(" None")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["u1", ">i2", "<f4", ">f8", "?"])
def test_arrays_of_every_type(here, order, kind):
    pixels = np.asarray(IMAGES, order=order).astype(kind, order="K")
    np.savez("set.npz", pixels=pixels, mine=LABELS)
    with npz_reader.Npz(here / "set.npz") as opened:
        assert opened.names == ["pixels", "mine"]
        found = opened.read("pixels")
    np.testing.assert_array_equal(found, pixels)
    assert found.dtype.isnative
    if kind != "?":
        named = data.npz("set.npz", images="pixels", labels="mine", name="own")
        np.testing.assert_array_equal(named.images[:, 0], pixels.astype(np.float32))
        assert named.name == "own"


def test_which_arrays_are_meant(here):
    np.savez("set.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:2], y_test=LABELS[:2])
    with pytest.raises(
        DataError, match=r"set.npz: holds train and test, and none.*\n.*'set.npz', \"train\"\)"
    ):
        data.npz("set.npz")
    with pytest.raises(
        DataError, match=r"images of split 'val' is not known; it holds x_train, y_train, x_t"
    ):
        data.npz("set.npz", "val")
    with pytest.raises(DataError, match="there is no split 'dev'"):
        data.npz("set.npz", "dev")
    with pytest.raises(DataError, match=r"no array 'x_tran'; it holds .*\n  hint: did you mean.*x_train"):
        data.npz("set.npz", images="x_tran", labels="y_train")
    with pytest.raises(DataError, match=r"which arrays are labels is not known.*\n  hint: labels=\"...\""):
        data.npz("set.npz", images="x_train")
    assert len(data.npz("set.npz", "test", images="x_test")) == 2


def test_nothing_is_unpickled(here):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    np.savez("set.npz", images=np.array([Trap()] * 6), labels=LABELS)
    with pytest.raises(
        DataError, match=r"images holds Python objects.*nothing is unpickled here\n  hint: save it"
    ):
        data.npz("set.npz")
    np.savez("set.npz", images=IMAGES, labels=np.array(list("abcdef")))
    with pytest.raises(DataError, match=r"labels holds <U1 \(6,\), not numbers"):
        data.npz("set.npz")


def archive(file, images, compression=zipfile.ZIP_STORED):
    """An .npz file whose array `images` has this content."""
    with zipfile.ZipFile(file, "w", compression) as zipped:
        zipped.writestr("images.npy", images)
        out = io.BytesIO()
        np.save(out, LABELS)
        zipped.writestr("labels.npy", out.getvalue())


def header(shape, kind="|u1"):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (header("(2**70, 8, 8)") + bytes(64), "images is not an array"),
        (header("(1000000, 8000, 8000)") + bytes(64), r"uint8 takes 64,000,000,000,000 bytes, 64 are there"),
        (header("(-2, 8, 8)") + bytes(64), "images"),
        (header("(3, 8, 8)") + bytes(64), "takes 192 bytes, 64 are"),
        (header("(1, 8, 4)") + bytes(64), "has more bytes than its shape takes"),
        (header("(6, 8)", "|O") + bytes(64), "images holds Python objects"),
        (header("(6, 8)", "<m8") + bytes(384), "not numbers"),
        (header("(6, 8)", "|V5") + bytes(384), "not numbers"),
        (header("(" * 3000) + bytes(64), "images is not an array"), (b"", "images is not an array"),
        (b"no array", "images is not an array"),
    ],
    ids=str,
)  # fmt: skip
def test_headers_are_not_believed(here, content, expected, compression):
    archive("set.npz", content, compression)
    with pytest.raises(DataError, match=f"set.npz: {expected}|set.npz: images.*{expected}"):
        data.npz("set.npz")


def test_a_size_that_the_archive_claims_is_not_believed(here, monkeypatch):
    """A directory entry says that 8 TB are there, in as many packed bytes."""
    archive("set.npz", header("(1000000, 8000, 1000)") + bytes(64))
    whole = bytearray((here / "set.npz").read_bytes())
    at = whole.index(b"PK\x01\x02")
    whole[at + 20 : at + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
    (here / "set.npz").write_bytes(whole)
    monkeypatch.setattr(np, "empty", lambda *args: pytest.fail("allocated"))
    with pytest.raises(DataError, match=r"takes 8,000,000,000,000 bytes, [0-9]{1,4} are there"):
        data.npz("set.npz")


def test_damaged_npz_files(here):
    np.savez_compressed("set.npz", images=IMAGES, labels=LABELS)
    whole = (here / "set.npz").read_bytes()
    for content, expected in (
        (whole[: len(whole) // 2], "set.npz is not an .npz file"), (b"", "set.npz is not an .npz file"),
        (whole[:150] + bytes([whole[150] ^ 255]) + whole[151:], "set.npz: images"),
    ):  # fmt: skip
        (here / "set.npz").write_bytes(content)
        with pytest.raises(DataError, match=expected):
            data.npz("set.npz")
    (here / "folder.npz").mkdir()
    with pytest.raises(DataError, match=r"folder.npz: is a folder"):
        data.npz("folder.npz")


def test_every_damage_of_a_byte_is_an_error_or_harmless(here):
    np.savez_compressed("set.npz", images=IMAGES[:2, :2], labels=LABELS[:2])
    whole = (here / "set.npz").read_bytes()
    refused = 0
    for at in range(len(whole)):
        (here / "set.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            found = data.npz("set.npz")
        except DataError:
            refused += 1
        else:
            np.testing.assert_array_equal(found.images[:, 0], IMAGES[:2, :2])
    assert refused > len(whole) // 3


def test_other_ways_of_packing_are_refused(here):
    archive("set.npz", header("(6, 2, 2)") + bytes(24), zipfile.ZIP_LZMA)
    with pytest.raises(DataError, match=r"images is packed in a way that numpy\.savez never uses"):
        data.npz("set.npz")

"""Image files: every mode as the net's channels, in its units; damaged, hostile and odd ones are refused."""

import os

import numpy as np
import pytest
from PIL import Image

from minet.data import DataError, Dataset, digits
from minet.data.image_files import ImageFiles, found


def read(file, shape, white=255.0, **settings):
    reader = ImageFiles(shape, white, **settings)
    assert reader.check([file]) == 1
    ((_, image),) = reader.images(file)
    assert image.dtype == np.float32 and image.shape == shape and image.flags.c_contiguous
    return image


def refused(file, shape=(1, 2, 3), white=255.0, **settings):
    with pytest.raises(DataError) as error:
        ImageFiles(shape, white, **settings).check([file])
    return str(error.value)


PIXELS = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40


def test_grey_and_colour(tmp_path):
    file = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(file)
    assert (read(file, (1, 2, 3))[0] == PIXELS).all()
    assert (read(file, (3, 2, 3)) == PIXELS).all()
    assert read(file, (1, 2, 3), 1.0)[0] == pytest.approx(PIXELS / 255)
    colours = np.stack([PIXELS, PIXELS + 5, PIXELS + 9], axis=2)
    Image.fromarray(colours).save(file)
    assert (read(file, (3, 2, 3)) == colours.transpose(2, 0, 1)).all()
    luma = colours @ [0.299, 0.587, 0.114]
    assert abs(read(file, (1, 2, 3))[0] - luma).max() <= 1
    assert (read(file, (4, 2, 3))[3] == 255).all()


def test_palettes_transparency_and_16_bits(tmp_path):
    file = tmp_path / "a.png"
    clear = np.dstack([PIXELS, PIXELS, PIXELS, PIXELS * 0])
    Image.fromarray(clear).save(file)
    assert (read(file, (3, 2, 3)) == PIXELS).all()
    Image.fromarray(clear[..., :3]).quantize(8).save(file, transparency=bytes([0, 100]))
    assert abs(read(file, (1, 2, 3))[0] - PIXELS).max() <= 8
    Image.fromarray(PIXELS.astype(np.uint16) * 257).save(file)
    assert read(file, (1, 2, 3))[0] == pytest.approx(PIXELS.astype(float))
    assert read(file, (3, 2, 3))[2] == pytest.approx(PIXELS.astype(float))
    assert read(file, (4, 2, 3), 1.0)[3] == pytest.approx(1)
    assert read(file, (1, 4, 4), resize=True).max() <= 230


def test_a_photograph_is_turned_upright(tmp_path):
    file = tmp_path / "a.jpg"
    image, exif = Image.fromarray(np.repeat(np.repeat(PIXELS, 16, 0), 16, 1)), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image.save(file, exif=exif, quality=95)
    upright = read(file, (1, 48, 32))[0]
    assert abs(upright[8::16, 8::16] - np.rot90(PIXELS, -1)).max() < 5
    assert "is 32x48 pixels" in refused(file, (1, 5, 5))


def test_resizing_covers_and_cuts_off_both_sides(tmp_path):
    file = tmp_path / "a.png"
    wide = np.zeros((10, 40), np.uint8)
    wide[:, 10:30] = 200
    Image.fromarray(wide).save(file)
    assert "is 40x10 pixels, the net takes 10x10" in refused(file, (1, 10, 10))
    assert (read(file, (1, 10, 10), resize=True) == 200).all()
    assert (read(file, (1, 20, 20), resize=True)[0, :, 2:-2] > 190).all()


def test_arrays_are_taken_as_they_are(tmp_path):
    file = tmp_path / "a.npy"
    values = np.random.default_rng(0).normal(size=(5, 2, 3))
    for array, shape, count in (
        (values[0], (1, 2, 3), 1), (values, (1, 2, 3), 5), (values[:, None], (1, 2, 3), 5),
        (values, (5, 2, 3), 1), (values[None], (5, 2, 3), 1), (values.astype(int)[:3], (3, 2, 3), 1),
    ):  # fmt: skip
        np.save(file, array)
        reader = ImageFiles(shape, None)
        assert reader.check([file]) == count
        images = [image for _, image in reader.images(file)]
        assert np.array_equal(images, array.astype(np.float32).reshape(count, *shape))
    assert "is (1, 5, 2, 3), the net takes (C, H, W) = (1, 2, 3)" in (
        np.save(file, values[None]) or refused(file)
    )


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.array([[1, 2, 3], [4, 5, np.nan]]), "not finite"),
        (np.full((2, 3), 1e300), "not finite"),
        (np.array([["a"] * 3] * 2), "not numbers"),
        (np.array([[None] * 3] * 2), "is not a .npy file"),
    ],
)
def test_arrays_that_are_refused(array, why, tmp_path):
    np.save(tmp_path / "a.npy", array)
    assert why in refused(tmp_path / "a.npy")


def test_damaged_files_and_other_formats(tmp_path, monkeypatch):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    for name, content, why in (
        ("a.npy", b"no array", "is not a .npy file"),
        ("b.npy", b"", "is not a .npy file"),
        ("b.png", b"no image", "is not a PNG or JPEG file"),
        ("c.png", whole[:45], "cannot be read"),
        ("d.png", whole[:16] + b"\x7f" + whole[17:], "is not a PNG or JPEG file"),
    ):
        (tmp_path / name).write_bytes(content)
        assert why in refused(tmp_path / name)
    Image.fromarray(PIXELS).save(tmp_path / "a.bmp")
    assert "is not a PNG or JPEG file" in refused(tmp_path / "a.bmp")
    np.save(tmp_path / "long.npy", np.zeros((2, 3)))
    (tmp_path / "short.npy").write_bytes((tmp_path / "long.npy").read_bytes()[:-8])
    assert "is not a .npy file" in refused(tmp_path / "short.npy")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)  # 6 is a warning, 9 an error
    assert "has more than 4 pixels" in refused(tmp_path / "a.png", resize=True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    assert "has more than 2 pixels" in refused(tmp_path / "a.png", resize=True)


def test_files_of_other_kinds_and_other_channels(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert "is not a file" in refused(tmp_path / "pipe.png")
    assert "no such file" in refused(tmp_path / ("x" * 300 + ".png"))
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert "it is not known what its white is" in refused(tmp_path / "a.png", white=None)
    assert "how it has 2 channels" in refused(tmp_path / "a.png", (2, 2, 3))


def test_many_that_are_wrong_are_counted(tmp_path):
    with pytest.raises(DataError, match="and 3 more") as error:
        ImageFiles((1, 2, 3), 255.0).check([tmp_path / f"{i}.png" for i in range(12)])
    assert error.value.message.count("no such file") == 9


def test_folders_are_walked_in_order(tmp_path):
    for name in ("b.PNG", "a/c.jpeg", "a.npy", "a/.b.png", "d.gif", "e.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in found([tmp_path])]
    assert names == ["a/c.jpeg", "a.npy", "b.PNG", "e.jpg"]
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no images in this folder"):
        found([tmp_path / "none"])
    assert found([tmp_path / "nothing.png"]) == [tmp_path / "nothing.png"]


# -- what a data set says of its classes and pixels -------------------------------------------------


def test_a_data_set_names_its_classes():
    images = np.zeros((3, 1, 2, 2), np.uint8)
    named = Dataset(images, [0, 1, -1], classes=["cat", "dog", "owl"])
    assert (named.classes, named.names, named.white) == (3, ("cat", "dog", "owl"), 255.0)
    assert (Dataset(images, [0, 1, 2]).names, Dataset(images / 2, [0, 1, 2]).white) == (None, None)
    assert Dataset(images / 2, [0, 1, 2], white=0.5).white == 0.5
    assert digits().names == tuple("0123456789") and digits().white == 16


@pytest.mark.parametrize("classes", ["cat", [], ["cat", ""], ["cat", 3], 2.5, ["cat", "cat", "dog"]])
def test_names_that_are_none_are_refused(classes):
    with pytest.raises(DataError, match="classes"):
        Dataset(np.zeros((3, 1, 2, 2), np.uint8), [0, 1, 1], classes=classes)


def test_labels_beyond_the_names_are_refused():
    with pytest.raises(DataError, match="out of range for 2 classes"):
        Dataset(np.zeros((3, 1, 2, 2), np.uint8), [0, 1, 2], classes=["cat", "dog"])


@pytest.mark.parametrize("white", [0, -1, np.nan, "255"])
def test_a_white_that_is_none_is_refused(white):
    with pytest.raises(DataError, match="white must be"):
        Dataset(np.zeros((3, 1, 2, 2), np.uint8), [0, 1, 2], white=white)


@pytest.mark.parametrize(
    "shape", ["(2**70, 1, 8, 8)", "(-1, 1, 8, 8)", "(True, 1, 8, 8)", "(", "-" * 5000 + "1"]
)
def test_damaged_headers_of_arrays_name_the_file(shape, tmp_path):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    file = tmp_path / "a.npy"
    file.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 64)
    assert "a.npy: is not a .npy file" in refused(file)


def test_no_images_and_unreadable_folders(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros((0, 1, 8, 8)))
    assert "without any image" in refused(tmp_path / "a.npy")

    def walk(path, onerror):
        onerror(PermissionError(13, "Permission denied", f"{path}/sub"))
        yield from ()

    monkeypatch.setattr("os.walk", walk)
    with pytest.raises(DataError, match="sub: cannot be read: Permission denied"):
        found([tmp_path])

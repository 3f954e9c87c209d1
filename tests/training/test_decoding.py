"""Images are decoded as a viewer shows them, or refused by name."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from archsearch.training.data import DataError, load
from archsearch.training.decoding import decode, read_header
from archsearch.training.image_folder import DIFFERENT_PIXELS, ON_WHITE
from archsearch.training.images import Images
from archsearch.training.loader import reader
from tests.training.test_data import write_tree

RAMP = np.arange(256, dtype=np.uint16)[None].repeat(8, 0)


def encoded(image, name, **options):
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def pixels(content):
    return np.asarray(decode(content, "x")).astype(int)


def random_image(mode, size=(40, 36)):
    shape = (size[1], size[0], len(mode))
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(values.squeeze())


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("name", ["PNG", "TIFF", "BMP", "WEBP"])
def test_plain_images_have_the_pixels_that_are_stored(mode, name):
    image = random_image(mode)
    content = encoded(image, name, **({"lossless": True} if name == "WEBP" else {}))
    assert np.array_equal(pixels(content), np.asarray(image.convert("RGB")))


def test_opaque_pixels_with_alpha_are_unchanged():
    image = random_image("RGB")
    image.putalpha(255)
    assert np.array_equal(pixels(encoded(image, "PNG")), np.asarray(image)[..., :3])


@pytest.mark.parametrize("bits_of_value", [8, 12, 16])
@pytest.mark.parametrize(
    ("mode", "name"),
    [("I;16", "PNG"), ("I;16", "TIFF"), ("I;16B", "TIFF"), ("I;16", "PPM"), ("I;16", "JPEG2000")],
)
def test_16_bit_gray_is_scaled_by_its_range(mode, name, bits_of_value):
    values = RAMP * (2**bits_of_value // 256) + (RAMP // 2 if bits_of_value == 16 else 0)
    data = values.astype(">u2" if mode == "I;16B" else "<u2").tobytes()
    options = {"irreversible": False} if name == "JPEG2000" else {}
    content = encoded(Image.frombytes(mode, (256, 8), data), name, **options)
    assert np.array_equal(pixels(content)[..., 0], values // 256)


def tiff(strip, bits=16, photometric=1):
    """A gray TIFF of one strip, 256 x 8, little endian."""
    fields = {256: 256, 257: 8, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 8}
    fields[279] = len(strip)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
    head = b"II*\0" + struct.pack("<I", 8 + len(strip))
    return head + strip + struct.pack("<H", len(fields)) + entries + bytes(4)


def test_16_bit_gray_in_which_white_is_zero_is_inverted():
    strip = (RAMP * 257).astype("<u2").tobytes()
    assert np.array_equal(pixels(tiff(strip))[..., 0], RAMP)
    assert np.array_equal(pixels(tiff(strip, photometric=0))[..., 0], 255 - RAMP.astype(int))


def test_12_bit_gray_is_scaled_by_its_range():
    strip = bytes.fromhex("123fed") * 1024  # the values 0x123 and 0xfed
    assert pixels(tiff(strip, bits=12))[0, :2, 0].tolist() == [0x12, 0xFE]


@pytest.mark.parametrize(
    ("values", "name", "mode"),
    [
        ((RAMP * 257).astype(np.int32), "TIFF", "I"),
        ((RAMP / 255).astype(np.float32), "TIFF", "F"),
        ((RAMP / 255).astype(np.float32), "PPM", "F"),
    ],
)
def test_pixels_without_a_known_range_are_refused_by_name(values, name, mode, tmp_path):
    file = tmp_path / "depth.img"
    file.write_bytes(encoded(Image.fromarray(values), name))
    for read in (read_header, lambda f: decode(f.read_bytes(), str(f))):
        with pytest.raises(DataError, match=rf"depth.img has pixels of mode {mode}, .* range"):
            read(file)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_pictures_are_turned_as_their_orientation_says(orientation, name):
    exif = Image.Exif()
    exif[0x0112] = orientation
    gray = Image.fromarray((np.add.outer(np.arange(36), np.arange(40)) * 3).astype(np.uint8))
    content = encoded(gray, name, exif=exif)
    with Image.open(io.BytesIO(content)) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    assert decode(content, "x").size == ((36, 40) if orientation > 4 else (40, 36))
    assert np.array_equal(pixels(content), expected)


def test_damaged_exif_data_leaves_the_picture_as_stored():
    image = random_image("L")
    content = encoded(image, "PNG", exif=b"Exif\0\0no header of TIFF")
    assert np.array_equal(pixels(content)[..., 0], np.asarray(image))


def palette_image():
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([200, 0, 0, 0, 200, 0])
    return image


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (Image.fromarray(np.array([[[200, 0, 0, 255], [9, 9, 9, 0]]], np.uint8)), {}),
        (
            Image.fromarray(np.array([[[200, 0, 0], [9, 9, 9]]], np.uint8)),
            {"transparency": (9,) * 3},
        ),
        (palette_image(), {"transparency": 1}),
        (palette_image(), {"transparency": b"\xff\0"}),
    ],
    ids=["alpha", "color", "palette index", "palette alpha"],
)
def test_transparent_pixels_are_white(image, options):
    assert pixels(encoded(image, "PNG", **options)).tolist() == [[[200, 0, 0], [255, 255, 255]]]


def test_a_transparent_16_bit_gray_is_white():
    gray = Image.fromarray(np.array([[0, 51400, 65535]], np.uint16))
    assert pixels(encoded(gray, "PNG", transparency=0))[0, :, 0].tolist() == [255, 200, 255]


def test_half_transparent_pixels_are_mixed_with_white():
    image = Image.fromarray(np.array([[[0, 100, 200, 102]]], np.uint8))
    assert pixels(encoded(image, "PNG")).tolist() == [[[153, 193, 233]]]


@pytest.mark.parametrize("name", ["JPEG", "TIFF"])
def test_cmyk_has_the_colors_that_are_seen(name):
    colors = [(255, 0, 0), (0, 0, 255), (250, 250, 250), (10, 10, 10)]
    for color in colors:
        image = Image.new("RGB", (16, 16), color).convert("CMYK")
        assert np.abs(pixels(encoded(image, name))[8, 8] - color).max() < 12


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixels(content)[4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"junk"])
def test_content_that_needs_another_program_is_no_image(content):
    with pytest.raises(DataError, match=r"^x.png cannot be read as an image: its content"):
        decode(content, "x.png")


def huge_png(side):
    """A PNG whose header says side x side, without pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("kind", ["imagefolder", "cifar10"])
def test_an_image_of_too_many_pixels_is_named_by_both_readers(tmp_path, kind):
    tree = write_tree(tmp_path / "set", {"train": 2, "test": 1})
    file = tree / "train" / "cat" / "0.png"
    file.write_bytes(huge_png(14_000))
    with pytest.raises(DataError) as error:
        load(f"{kind}:{tree}")
    assert str(error.value) == (
        f"{file} cannot be read as an image: it has more than 178,956,970 pixels; make it smaller"
    )


def test_below_the_limit_of_pixels_there_is_no_warning(tmp_path):
    file = tmp_path / "large.png"
    file.write_bytes(huge_png(10_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_header(file)


def test_decoding_processes_name_files_as_the_check_before_training(tmp_path):
    import torch

    files = (tmp_path / "a.png", Path(f"{tmp_path}/caf\udce9.png"), tmp_path / "f.tiff")
    files[0].write_bytes(huge_png(14_000))
    files[1].write_bytes(b"junk")
    files[2].write_bytes(encoded(Image.new("F", (4, 4)), "TIFF"))
    read = reader(Images(None, files, np.zeros(3, np.int64)), 8, torch.device("cpu"))
    for i, file in enumerate(files):
        with pytest.raises(DataError) as before:
            read_header(file)
        with pytest.raises(DataError) as during:
            list(read([torch.tensor([i])]))
        assert str(during.value) == str(before.value)


def fingerprint(tree):
    load.__globals__["_load"].cache_clear()
    return load(f"imagefolder:{tree}").fingerprint


def test_pictures_that_were_decoded_differently_change_the_fingerprint(tmp_path, monkeypatch):
    tree = write_tree(tmp_path / "set", {"train": 2, "test": 1})
    file, image = tree / "train" / "cat" / "0.png", random_image("RGB", (32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    opaque, transparent = image.copy(), image.copy()
    opaque.putalpha(255)
    transparent.putalpha(254)
    changes = {}
    for name, changed, options in (
        ("plain", image, {}),
        ("opaque", opaque, {}),
        ("transparent", transparent, {}),
        ("turned", image, {"exif": exif}),
        ("deep", Image.fromarray(RAMP[:, :32] * 257), {}),
    ):
        changed.save(file, **options)
        monkeypatch.setattr("archsearch.training.image_folder.DIFFERENT_PIXELS", "")
        without = fingerprint(tree)
        monkeypatch.setattr("archsearch.training.image_folder.DIFFERENT_PIXELS", DIFFERENT_PIXELS)
        changes[name] = fingerprint(tree) != without
        notes = load(f"imagefolder:{tree}").notes
        assert notes == ((ON_WHITE,) if name == "transparent" else ())
    assert changes == {
        "plain": False, "opaque": False, "transparent": True, "turned": True, "deep": True,
    }  # fmt: skip

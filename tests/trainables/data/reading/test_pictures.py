import io

import numpy as np
import pytest
from PIL import Image

from trainables.data.reading.pictures import decode_image


def encoded(image, kind="PNG", **settings):
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def decoded(image, kind="PNG", *, size=8, **settings):
    return decode_image(encoded(image, kind, **settings), size=size, where="row 1")


def photo(mode="RGB", size=(40, 30)):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def test_an_image_of_the_right_size_comes_out_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(decoded(Image.fromarray(pixels)), pixels.transpose(2, 0, 1))


def test_transparency_lies_on_white():
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :, 0], pixels[:, 4:, 3] = 255, 255  # red where it is opaque, the right half
    pixels[0, :, 3] = 51  # the top row a fifth
    out = decoded(Image.fromarray(pixels, "RGBA"))
    assert np.array_equal(out[:, 1, :], [[255] * 8, [255] * 4 + [0] * 4, [255] * 4 + [0] * 4])
    assert np.array_equal(out[:, 0, 0], [255, 204, 204])


def test_a_palette_with_a_transparent_colour_lies_on_white():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (4, 0, 8, 8))
    assert decoded(image)[:, 0, 0].tolist() == [255, 0, 0]
    out = decoded(image, transparency=0)
    assert out[:, 0, 0].tolist() == [255, 255, 255] and out[:, 0, 7].tolist() == [0, 0, 255]


def test_grey_fills_all_channels():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    assert (decoded(Image.fromarray(pixels)) == pixels).all()
    assert (decoded(Image.fromarray(pixels > 127)) == 255 * (pixels > 127)).all()  # one bit
    assert decoded(Image.merge("LA", [Image.fromarray(pixels), Image.new("L", (8, 8), 0)])).min() == 255


def test_sixteen_bits_are_scaled_not_cut_off():
    values = np.array([0, 257, 257 * 100, 65535], np.uint16).repeat(2)
    out = decoded(Image.fromarray(np.tile(values, (8, 1))))
    assert out[0, 0].tolist() == [0, 0, 1, 1, 100, 100, 255, 255]
    assert (out[0] == out[1]).all() and (out[0] == out[2]).all()


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "JPEG"), ("YCbCr", "JPEG"), ("RGB", "WEBP"), ("P", "GIF")])
def test_other_modes_and_formats_decode(mode, kind):
    out = decoded(photo(mode), kind)
    assert out.shape == (3, 8, 8) and out.dtype == np.uint8 and 60 < out.mean() < 190


@pytest.mark.parametrize("size", [(3, 9000), (9000, 3), (1, 60000), (1, 1), (7, 5)])
def test_any_shape_becomes_a_square_at_once(size):
    """Only the middle is resized: the whole of 1 x 60000 pixels at 64 wide would be 700 MB."""
    image = Image.new("RGB", size, (10, 20, 30))
    assert (decoded(image, size=64) == np.array([10, 20, 30]).reshape(3, 1, 1)).all()


def test_the_middle_is_kept():
    image = Image.new("RGB", (30, 10), (255, 0, 0))
    image.paste((0, 0, 255), (10, 0, 20, 10))
    assert decoded(image, size=10).transpose(1, 2, 0).reshape(-1, 3).tolist() == [[0, 0, 255]] * 100


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_truncated_image_names_its_row(kind):
    data = encoded(photo(), kind)
    for share in (0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9):
        with pytest.raises(ValueError, match="toy row 7: the image cannot be decoded"):
            decode_image(data[: int(share * len(data))], size=8, where="toy row 7")


def test_bytes_that_are_no_image_name_their_row():
    with pytest.raises(ValueError, match="row 1: the image cannot be decoded"):
        decode_image(b"<html>404</html>", size=8, where="row 1")


def turned(pixels, orientation):
    """What a camera stores of a scene when EXIF says ``orientation``: the standard's table read backwards."""
    undo = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: a.transpose(1, 0, 2)[::-1],
        7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1], 8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    }  # fmt: skip
    return np.ascontiguousarray(undo[orientation](pixels))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "settings"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_the_camera_s_orientation_is_applied(kind, settings, orientation):
    scene = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = decoded(Image.fromarray(turned(scene, orientation)), kind, exif=exif, **settings)
    assert np.array_equal(out, scene.transpose(2, 0, 1))


def test_the_orientation_of_a_jpeg_is_applied():
    scene = np.zeros((64, 64, 3), np.uint8)
    scene[:32, :, 0] = scene[32:, :, 2] = 255  # red above blue
    exif = Image.Exif()
    exif[0x0112] = 3
    out = decoded(Image.fromarray(turned(scene, 3)), "JPEG", exif=exif)
    assert out[0, 0].min() > 200 and out[2, 0].max() < 60 and out[2, -1].min() > 200


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_data_leave_the_picture():
    image = photo()
    assert np.array_equal(decoded(image, exif=b"Exif\0\0MM\0*broken"), decoded(image))


RAMP = np.linspace(0, 1, 8)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [(RAMP, np.float32), (RAMP * 255, np.float32), (RAMP * 65535, np.float32), (RAMP * 255, np.int32),
     (RAMP * 65535, np.int32), (RAMP * (2**31 - 1), np.int32), (RAMP * 65535, np.uint16)],
)  # fmt: skip
def test_a_ramp_of_any_depth_spans_black_to_white(values, dtype):
    image = Image.fromarray(np.tile(np.rint(values) if dtype != np.float32 else values, (8, 1)).astype(dtype))
    out = decoded(image, "TIFF")
    assert np.abs(out[0, 0].astype(int) - np.rint(RAMP * 255)).max() <= 1 and (out == out[:1]).all()


def test_floats_without_a_range_are_stretched():
    image = Image.fromarray(np.tile(np.linspace(-3, 5, 8), (8, 1)).astype(np.float32))
    out = decoded(image, "TIFF")
    assert out[0, 0, 0] == 0 and out[0, 0, -1] == 255
    holes = Image.fromarray(np.full((8, 8), np.nan, np.float32))
    assert decoded(holes, "TIFF").max() == 0


def test_a_transparent_level_of_sixteen_bits_lies_on_white():
    values = np.tile(np.array([0, 65535 // 2], np.uint16).repeat(4), (8, 1))
    out = decoded(Image.fromarray(values), transparency=0)
    assert out[0, 0].tolist() == [255] * 4 + [127] * 4


def test_the_first_frame_of_an_animation_is_the_picture():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    out = decoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=10)
    assert out[:, 0, 0].tolist() == [255, 0, 0]


# --- pictures that are not square -----------------------------------------------------------------------
POSTER = np.zeros((12, 8, 3), np.uint8)  # 2:3; each sixth of the height has a level of its own
POSTER[:] = np.repeat(np.arange(6) * 50, 2).astype(np.uint8)[:, None, None]
LYING = POSTER.transpose(1, 0, 2)


def fitted(pixels, fit, *, size):
    return decode_image(encoded(Image.fromarray(pixels)), size=size, fit=fit, where="row 1").transpose(1, 2, 0)


def test_crop_leaves_the_middle_square_and_is_the_default():
    assert np.array_equal(fitted(POSTER, "crop", size=8), POSTER[2:10])
    assert np.array_equal(fitted(LYING, "crop", size=8), LYING[:, 2:10])
    assert np.array_equal(decoded(Image.fromarray(POSTER)), POSTER[2:10].transpose(2, 0, 1))


def test_pad_leaves_all_in_the_middle_of_a_grey_square():
    out = fitted(POSTER, "pad", size=12)
    assert np.array_equal(out[:, 2:10], POSTER) and (out[:, :2] == 128).all() and (out[:, 10:] == 128).all()
    assert np.array_equal(fitted(LYING, "pad", size=12), out.transpose(1, 0, 2))
    smaller = fitted(POSTER, "pad", size=6)  # half of it: 4 x 6, the ratio of the sides is kept
    grey = (smaller == 128).all(axis=(0, 2))
    assert grey.tolist() == [True, False, False, False, False, True]
    assert np.abs(smaller[:, 2].astype(int) - POSTER[::2, 0]).max() <= 8  # bicubic rings a little at the steps
    line = fitted(np.zeros((1, 100, 3), np.uint8), "pad", size=8)  # as thin as a pixel: one is left
    assert (line == 0).all(axis=(1, 2)).sum() == 1


def test_stretch_leaves_all_and_gives_both_sides_the_same_length():
    wide = np.zeros((6, 12, 3), np.uint8)
    wide[:, 6:] = 240
    out = fitted(wide, "stretch", size=6)
    assert (out[:, :2] < 10).all() and (out[:, 4:] > 230).all()  # halves stay halves
    bars = np.abs(fitted(POSTER, "stretch", size=12)[:, 6].astype(int) - POSTER[:, 0]).max()
    assert bars == 0 and (fitted(POSTER, "stretch", size=12) == fitted(POSTER, "stretch", size=12)[:, :1]).all()


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_square_picture_is_the_same_however_it_is_fitted(fit):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    assert np.array_equal(fitted(pixels, fit, size=6), fitted(pixels, "crop", size=6))
    assert np.array_equal(fitted(pixels, fit, size=9), pixels)

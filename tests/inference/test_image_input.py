"""Images enter upright and bounded, whatever their format."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from atomthink_plugin.inference.image_input import fitting, read_image, upright, upright_size
from atomthink_plugin.training.train.row_encoder import blank_image, load_image

ORIENTATION = 0x0112


def photograph(format: str, orientation: int | None, size: tuple[int, int] = (48, 32)) -> bytes:
    """An image file whose left upper quarter is red, as the camera's sensor saw it."""
    image = Image.new("RGB", size, "white")
    image.paste((255, 0, 0), (0, 0, size[0] // 2, size[1] // 2))
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    file = BytesIO()
    image.save(file, format, exif=exif.tobytes(), lossless=True, quality=95)
    return file.getvalue()


def red_corner(image: Image.Image) -> tuple[bool, bool]:
    """Whether the red quarter is in the lower, and in the right half."""
    pixels = np.asarray(image.convert("RGB")).astype(int)
    height, width = pixels.shape[:2]
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 80)
    rows, columns = np.nonzero(red)
    return bool(rows.mean() > height / 2), bool(columns.mean() > width / 2)


WHERE = {
    None: (False, False),
    1: (False, False),
    2: (False, True),
    3: (True, True),
    4: (True, False),
    5: (False, False),
    6: (False, True),
    7: (True, True),
    8: (True, False),
}
"""Where the red quarter is seen, by the orientation's definition in the EXIF standard."""


@pytest.mark.parametrize("max_pixels", [10**6, 600])
@pytest.mark.parametrize("orientation", WHERE)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_photograph_is_turned_once(format: str, orientation: int | None, max_pixels: int, tmp_path: Path) -> None:
    file = tmp_path / "photograph"
    file.write_bytes(photograph(format, orientation))
    sideways = (orientation or 1) >= 5
    for image in (read_image(file, max_pixels), read_image(file.read_bytes(), max_pixels)):
        assert red_corner(image) == WHERE[orientation]
        assert (image.height > image.width) == sideways
        assert image.width * image.height <= max_pixels
        assert red_corner(upright(image, max_pixels)) == WHERE[orientation]
    with Image.open(file) as lazy:
        assert upright_size(lazy, max_pixels) == image.size
    assert load_image(file, max_pixels).size == blank_image(file, max_pixels).size == image.size


def test_an_image_that_a_task_has_decoded_is_turned() -> None:
    image = Image.open(BytesIO(photograph("JPEG", 6)))
    image.load()
    assert upright(image).size == (32, 48)
    assert upright(image.convert("RGB")).size == (32, 48)  # converting keeps the EXIF data
    assert upright(ImageOps.exif_transpose(image)).size == (32, 48)


def test_an_image_within_bounds_keeps_its_pixels() -> None:
    image = Image.effect_noise((40, 30), 80).convert("RGBA")
    assert upright(image, 1200) is image


@pytest.mark.parametrize("mode", ["1", "P", "L", "LA", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_an_image_of_any_mode_is_scaled_down(mode: str) -> None:
    small = upright(
        Image.new("RGB", (400, 100), "red").convert("L" if mode in ("I;16", "F") else mode).convert(mode), 400
    )
    assert small.size == (40, 10)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_hidden_colours_of_a_transparent_image_stay(mode: str) -> None:
    image = Image.new("RGBA", (400, 100), (255, 255, 255, 0)).convert(mode)
    assert upright(image, 400).convert("RGB").getextrema() == ((255, 255),) * 3


def test_a_jpeg_file_is_not_decoded_whole() -> None:
    lazy = Image.open(BytesIO(photograph("JPEG", 6, (4800, 3200))))
    assert upright(lazy, 600 * 400).size == (400, 600)
    assert lazy.size == (600, 400)  # what the decoder made


def test_malformed_exif_data_is_ignored() -> None:
    image = Image.new("RGB", (4, 2))
    image.info["exif"] = b"Exif\0\0nonsense"
    assert upright(image).size == (4, 2)


def test_an_image_too_large_for_memory_is_refused() -> None:
    file = BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    with pytest.raises(Image.DecompressionBombError):
        read_image(file.getvalue())


@given(st.integers(1, 10**5), st.integers(1, 10**5), st.integers(1, 10**6))
def test_sizes_fit(width: int, height: int, most: int) -> None:
    small = fitting((width, height), most)
    assert min(small) >= 1
    assert small[0] * small[1] <= max(most, width, height)
    assert fitting(small, None) == small

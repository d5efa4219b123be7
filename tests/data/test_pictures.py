"""Folders of pictures: one form for all of a set, whatever its files are."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from gnopt.data.formats import ImportSettings
from gnopt.data.importing import import_data

Image = pytest.importorskip("PIL.Image")
RAMP = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)


def imported(folder: Path, **settings) -> tuple[np.ndarray, float, list[str]]:
    """Pictures as they are meant, the scale they are stored with, and what was said."""
    notes: list[str] = []
    out = folder.with_suffix(".h5")
    import_data(folder, out, ImportSettings(**settings), note=notes.append, overwrite=True)
    with h5py.File(out) as file:
        x = file["x"]
        scale = x.attrs.get("scale", 1.0)
        order = np.argsort(x[()].reshape(len(x), -1).sum(axis=1), kind="stable")
        return x[()][order] * scale, scale, notes


def folder_of(tmp_path: Path, **files: object) -> Path:
    folder = tmp_path / "p"
    folder.mkdir()
    for name, picture in files.items():
        if not isinstance(picture, Image.Image):
            picture = Image.fromarray(picture)
        picture.save(folder / name.replace("_", "."))
    return folder


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_modes_may_be_mixed(tmp_path, mode):
    grey = Image.fromarray(RAMP if mode != "1" else RAMP // 255 * 255)
    suffix = "tif" if mode == "CMYK" else "png"
    folder = folder_of(
        tmp_path, **{"a_png": grey, f"b_{suffix}": grey.convert("RGB").convert(mode)}
    )
    x, scale, notes = imported(folder)
    assert scale == 1 / 255
    np.testing.assert_allclose(x[0], x[1], atol=1.01 / 255)
    assert any("transparency" in line for line in notes) == mode.endswith("A")


@pytest.mark.parametrize("saved", ["RGBA", "LA", "P"])
def test_transparent_parts_show_a_white_ground(tmp_path, saved):
    alpha = np.array([[0, 255, 255], [0, 0, 128]], np.uint8)
    ink = Image.fromarray(np.dstack([np.zeros((2, 3, 3), np.uint8), alpha]))
    if saved == "P":
        ink = Image.fromarray(np.where(alpha == 255, 0, 1).astype(np.uint8), "P")
        ink.putpalette([0, 0, 0, 0, 0, 0])
        ink.info["transparency"] = 1
    x, _, notes = imported(folder_of(tmp_path, a_png=ink.convert(saved), b_png=RAMP))
    expected = 1 - alpha / 255
    if saved == "P":
        expected[1, 2] = 1
    np.testing.assert_allclose(x[1], expected, atol=1 / 255)
    assert notes == ["1 picture with transparency, shown on a white ground"]


def test_all_pictures_alike_are_noticed(tmp_path):
    white = np.full((2, 3), 255, np.uint8)
    folder = folder_of(tmp_path, a_png=white, b_png=white)
    assert imported(folder)[2] == [f"{folder}: all 2 rows are the same"]


def test_sixteen_bits_are_kept_and_share_white_with_bytes(tmp_path):
    deep = np.array([[0, 65535, 32768], [257, 1, 2]], np.uint16)
    x, scale, notes = imported(folder_of(tmp_path, a_png=deep, b_png=RAMP))
    assert scale == 1 / 65535
    np.testing.assert_allclose(x[0], deep / 65535)
    np.testing.assert_allclose(x[1], RAMP / 255)
    assert notes == ["pictures of 16 bits are kept: from 0 to 65535, white is 65535"]


def test_dark_pictures_of_sixteen_bits_keep_one_scale(tmp_path):
    faint, bright = (np.full((2, 3), top, np.uint16) for top in (200, 4000))
    x, _, notes = imported(folder_of(tmp_path, a_png=faint, b_png=bright))
    np.testing.assert_allclose(x[:, 0, 0], [200 / 65535, 4000 / 65535])
    assert notes[0].endswith("; --scale 1/4000 makes the lightest of them white")


@pytest.mark.parametrize(
    ("factor", "scale", "note"),
    [
        (1.0, 1.0, "pictures of floats are kept: from 0 to 1, white is 1"),
        (200.0, 1 / 255, "pictures of floats from 0 to 200 are read as greys up to 255; --scale 1"),
        (3000.0, 1.0, "pictures of floats from 0 to 3000 are kept as they are"),
        (-2.0, 1.0, "pictures of floats from -2 to 0 are kept as they are"),
    ],
)
def test_floats_are_kept(tmp_path, factor, scale, note):
    values = (RAMP / 255).astype(np.float32)
    folder = folder_of(tmp_path, a_tif=values * np.float32(factor), b_tif=values * 0)
    x, found, notes = imported(folder)
    assert found == scale
    assert notes[0].startswith(note)
    np.testing.assert_allclose(x.sum(), values.sum() * factor * scale, rtol=1e-6)


def test_floats_and_bytes_share_white(tmp_path):
    values = (RAMP / 255).astype(np.float32)
    x, scale, _ = imported(folder_of(tmp_path, a_tif=values, b_png=RAMP))
    assert scale == 1
    np.testing.assert_allclose(x[0], x[1], atol=1e-6)


@pytest.mark.parametrize("color", [False, True])
def test_deep_pictures_are_resized_in_their_own_numbers(tmp_path, color):
    deep = np.full((4, 6), 40000, np.uint16)
    x, _, _ = imported(folder_of(tmp_path, a_png=deep), size=(3, 2), color=color)
    assert x.shape == (1, 2, 3) + (3,) * color
    np.testing.assert_allclose(x, 40000 / 65535)


def test_pictures_are_turned_as_the_camera_was_held(tmp_path):
    turned = Image.fromarray(RAMP)
    exif = turned.getexif()
    exif[0x112] = 6
    folder = folder_of(tmp_path)
    turned.save(folder / "a.png", exif=exif)
    np.testing.assert_allclose(imported(folder)[0][0] * 255, np.rot90(RAMP, -1))


def test_only_the_first_of_several_frames_is_used_and_that_is_said(tmp_path):
    folder = folder_of(tmp_path)
    frames = [Image.fromarray(RAMP), Image.fromarray(RAMP[::-1])]
    frames[0].save(folder / "a.gif", save_all=True, append_images=frames[1:])
    x, _, notes = imported(folder)
    assert x.shape == (1, 2, 3)
    assert notes == ["1 file holds several pictures: the first of each is used"]

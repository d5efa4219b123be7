"""CURVES and FACES: what the pictures look like, how they are split, and that they are always the
same.
"""

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from gnopt.data.make_curves import SIZE, draw_curves, make_curves, render
from gnopt.data.make_faces import (
    PictureStack,
    bilinear,
    load_pictures,
    make_faces,
    split_people,
    view,
)
from gnopt.data.options import DataSettings
from gnopt.data.source import open_data
from gnopt.errors import ConfigError, DataError

FACES = Path(__file__).parents[2] / "datasets" / "faces-lfw100.h5"


def test_curves_are_single_thin_bright_strokes():
    images = draw_curves(0, "train", 0) / 255
    assert 0.05 < images.mean() < 0.15
    assert images.reshape(len(images), -1).max(axis=1).min() > 0.7  # each has ink
    assert (images == 0).mean() > 0.7
    assert np.isin([0, 1], images).all()
    grey = ((images > 0) & (images < 1)).mean() / (images > 0).mean()
    assert 0.3 < grey < 0.95  # soft edges


def test_the_stroke_passes_through_its_points():
    points = np.random.default_rng(0).uniform(3, SIZE - 3, (200, 3, 2)).astype(np.float32)
    points[:, 0] = points[:, 2] + np.sign(points[:, 0] - points[:, 2]) * 6  # no dots
    points = np.clip(points, 1, SIZE - 1)
    images = render(points)
    for k in range(3):
        column, row = points[:, k].astype(int).T
        inked = images[np.arange(200), row, column] / 255
        # An end is rounded off, so it has half the ink, and less if its pixel is off centre.
        assert inked.min() > 0.15


def test_straight_strokes_have_even_ink_and_width():
    image = render(np.array([[[4.5, 14.5], [14, 14.5], [23.5, 14.5]]], np.float32))[0] / 255
    assert image[14, 6:22].min() == 1
    assert image[10, :].max() < 0.01
    assert 1.5 < image[:, 14].sum() < 3  # pixels across


def test_curves_do_not_depend_on_how_many_are_asked_for(tmp_path):
    few = make_curves(tmp_path / "few.h5", 1100, 7, 0, seed=5)
    many = make_curves(tmp_path / "many.h5", 2500, 30, 10, seed=5)
    assert few == {"train": 1100, "test": 7}
    assert many == {
        "train": 2500,
        "validation": 10,
        "test": 30,
    }
    with h5py.File(tmp_path / "few.h5") as a, h5py.File(tmp_path / "many.h5") as b:
        np.testing.assert_array_equal(a["train/x"][:], b["train/x"][:1100])
        np.testing.assert_array_equal(a["test/x"][:], b["test/x"][:7])
        assert (b["train/x"][:10] != b["validation/x"][:10]).any()
        assert b["train/x"].chunks[1:] == (28, 28)
        assert b["train/x"].compression == "gzip"
    make_curves(tmp_path / "many.h5", 1100, 30, 10, seed=6, overwrite=True)
    with h5py.File(tmp_path / "few.h5") as a, h5py.File(tmp_path / "many.h5") as b:
        assert (a["train/x"][:100] != b["train/x"][:100]).any()
    with open_data(DataSettings(file=str(tmp_path / "many.h5")), seed=0, dtype="float32") as data:
        assert (data.train.rows, data.validation.rows, data.test.rows) == (1100, 10, 30)
        assert data.train.batch(0, 100)[0].max() <= 1


def test_files_are_whole_or_absent(tmp_path):
    path = tmp_path / "c.h5"
    make_curves(path, 10, 0, 0)
    before = path.read_bytes()
    with pytest.raises(DataError, match="exists already; --overwrite"):
        make_curves(path, 20, 0, 0)

    def interrupt(_rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_curves(path, 20, 0, 0, overwrite=True, progress=interrupt)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["c.h5"]
    with pytest.raises(DataError, match="is a directory"):
        make_curves(tmp_path, 20, 0, 0)
    with pytest.raises(DataError, match="cannot be written"):
        make_curves(path / "below.h5", 20, 0, 0)
    with pytest.raises(ConfigError, match="at least 1"):
        make_curves(tmp_path / "none.h5", 0, 0, 0)


def smooth(size: int, seed: int = 0) -> np.ndarray:
    y, x = np.mgrid[:size, :size] / size
    a, b, c = np.random.default_rng(seed).uniform(1, 3, 3)
    return (0.5 + 0.25 * np.sin(a * np.pi * x + c) + 0.25 * np.cos(b * np.pi * y)).astype(
        np.float32
    )


def test_without_rotation_and_scale_the_picture_stays():
    picture = smooth(25)
    np.testing.assert_allclose(view(picture, np.zeros(1), np.ones(1), 25)[0], picture, atol=1e-6)


@pytest.mark.parametrize("quarter", [1, -1, 2])
def test_quarter_turns_are_exact(quarter):
    turned = view(smooth(24), np.array([90.0 * quarter]), np.ones(1), 24)[0]
    np.testing.assert_allclose(turned, np.rot90(smooth(24), quarter), atol=1e-5)


def test_enlargement_shows_the_middle():
    picture = smooth(64)
    twice = view(picture, np.zeros(1), np.full(1, 2.0), 32)[0]
    np.testing.assert_allclose(twice, picture[16:48, 16:48], atol=1e-5)
    half = view(picture, np.zeros(1), np.ones(1), 32)[0]
    np.testing.assert_allclose(half, picture.reshape(32, 2, 32, 2).mean(axis=(1, 3)), atol=1e-5)


def test_turning_back_and_forth_is_the_identity_inside():
    picture = smooth(51)
    there = view(picture, np.array([30.0]), np.ones(1), 51)[0]
    back = view(there, np.array([-30.0]), np.ones(1), 51)[0]
    np.testing.assert_allclose(back[15:36, 15:36], picture[15:36, 15:36], atol=5e-3)


def test_the_window_never_leaves_the_picture_at_the_published_scales():
    padded = np.zeros((64, 64), np.float32) + 1
    views = view(padded, np.linspace(-90, 90, 50), np.linspace(1.42, 1.8, 50), 25)
    np.testing.assert_allclose(views, 1, atol=1e-6)


def test_bilinear_at_whole_positions_and_between():
    picture = np.arange(12, dtype=np.float32).reshape(3, 4)
    row, column = np.float32([0, 2, 1.5, 2]), np.float32([0, 3, 1.25, 0.5])
    np.testing.assert_allclose(bilinear(picture, row, column), [0, 11, 7.25, 8.5])
    np.testing.assert_allclose(bilinear(np.float32([[3]]), np.float32([0]), np.float32([0])), [3])


def test_olivetti_faces_are_split_by_person(tmp_path):
    faces = np.random.default_rng(0).random((400, 64, 64)).astype(np.float32)
    np.save(tmp_path / "olivetti.npy", faces)
    pictures = load_pictures(tmp_path / "olivetti.npy")
    groups = split_people(pictures)
    assert [len(groups[name]) for name in ("train", "validation", "test")] == [250, 50, 100]
    assert groups["validation"][0] == 250
    assert set(pictures.people[groups["test"]]) == set(range(30, 40))


def test_every_format_of_the_olivetti_faces_is_the_same_stack(tmp_path):
    pytest.importorskip("PIL")
    from PIL import Image

    faces = np.random.default_rng(0).integers(0, 256, (6, 64, 64), dtype=np.uint8)
    np.save(tmp_path / "a.npy", faces)
    np.save(tmp_path / "flat.npy", faces.reshape(6, -1))
    np.save(tmp_path / "unit.npy", (faces / 255).astype(np.float32))
    np.savez(tmp_path / "a.npz", faces=faces)
    scipy.io.savemat(
        tmp_path / "olivettifaces.mat",
        {"faces": faces.transpose(2, 1, 0).reshape(4096, 6).astype(float), "p": np.zeros(3)},
    )
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = faces
        file["y"] = [3, 3, 3, 1, 1, 1]
    for k in range(6):
        folder = tmp_path / "att" / f"s{10 if k > 2 else 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(faces[k]).save(folder / f"{k}.pgm")
    for name in ("a.npy", "flat.npy", "unit.npy", "a.npz", "olivettifaces.mat", "a.h5", "att"):
        pictures = load_pictures(tmp_path / name)
        np.testing.assert_allclose(pictures.values, faces / 255, atol=1e-6, err_msg=name)
        people = {"a.h5": [3, 3, 3, 1, 1, 1], "att": [0, 0, 0, 1, 1, 1]}.get(name)
        assert people is None if pictures.people is None else list(pictures.people) == people


def test_faces_from_the_shipped_pictures(tmp_path):
    rows = make_faces(tmp_path / "f.h5", FACES, pairs=5, seed=1)
    assert rows == {"train": 315, "validation": 60, "test": 125}
    again = make_faces(tmp_path / "g.h5", FACES, pairs=5, seed=1)
    with h5py.File(tmp_path / "f.h5") as a, h5py.File(tmp_path / "g.h5") as b:
        assert again == rows
        assert a["train/x"].shape == (315, 25, 25)
        np.testing.assert_array_equal(a["train/x"][:], b["train/x"][:])
        assert a["train/x"].attrs["scale"] == 1 / 255
        assert 0.2 < a["train/x"][:].mean() / 255 < 0.8
    with open_data(DataSettings(file=str(tmp_path / "f.h5")), seed=0, dtype="float32") as data:
        assert (data.train.inputs, data.validation.rows, data.test.rows) == (625, 60, 125)


@pytest.mark.parametrize("people", [None, np.array([7]), np.array([7, 7, 3])])
def test_few_people_are_for_training(people):
    count = 1 if people is None else len(people)
    groups = split_people(PictureStack(np.zeros((count, 4, 4)), people))
    assert len(groups["train"]) >= 1
    assert sorted(np.concatenate(list(groups.values()))) == list(range(count))


def test_pickles_are_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    for name in ("olivetti_py3.pkz", "faces.dat"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(
            DataError, match=r"is a pickle.*olivettifaces.mat.*NPY, NPZ, HDF5 or a folder"
        ):
            make_faces(tmp_path / "out.h5", tmp_path / name)
    array = np.empty(1, object)
    array[0] = Bomb()
    np.save(tmp_path / "objects.npy", array)
    with pytest.raises(DataError, match="pickled objects"):
        make_faces(tmp_path / "out.h5", tmp_path / "objects.npy")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 4, 5, 6)), "expected grey pictures"),
        (np.zeros((3, 7)), "expected grey pictures"),
        (np.full((3, 5, 5), -1.0), "grey values from -1"),
        (np.full((3, 5, 5), 1e4), "0 to 255"),
        (np.full((3, 5, 5), np.nan), "grey values from nan"),
        (np.array(["a", "b"]), "expected integers"),
        (np.zeros((0, 5, 5)), "at least one row"),
    ],
)
def test_stacks_that_are_no_faces(tmp_path, array, words):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=words):
        make_faces(tmp_path / "out.h5", tmp_path / "a.npy")
    assert not (tmp_path / "out.h5").exists()


def test_no_source(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        make_faces(tmp_path / "out.h5", tmp_path / "gone.mat")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        make_faces(tmp_path / "out.h5", tmp_path / "empty")

"""Grid files, the paper's grid, and the points they stand for."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from gnopt.compare.grid import PAPER_GRID, GridPoint, Variant, choose_variants, points, read_grid
from gnopt.compare.plan import ComparisonRequest, make_plan
from gnopt.errors import ConfigError


def test_the_papers_grid_has_35_points_and_the_default():
    found = points(Variant("adam", "adam", grid=PAPER_GRID))
    assert len(found) == 36
    assert found[0].values == {}
    assert found[0].label == "default"
    assert found[1].values == {"learning_rate": 2.0**-6, "decay_share": 1.0}
    assert found[1].settings(40000) == {
        "optimizer.learning_rate": 2.0**-6,
        "optimizer.decay_period": 40000,
    }
    assert found[5].settings(40000)["optimizer.decay_period"] == 2500
    assert found[5].settings(3)["optimizer.decay_period"] == 1
    assert found[5].label == "rate 2^-6, halved every 6.25%"
    assert len({point.slug for point in found}) == 36


def test_a_grid_file_has_a_grid_and_named_variants(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text("""
        [grid]
        learning_rate = [0.1, 0.2]
        [variants."batch alone"]
        method = "kfra"
        line = "dashed"
        set = { curvature_decay = 0.0, "training.updates" = 7 }
        [variants.kfac]
        grid = { damping_a = [0.1, 0.2, 0.3] }
    """)
    grid, named = read_grid(str(path))
    assert named["batch alone"] == Variant(
        "batch alone",
        "kfra",
        {"optimizer.curvature_decay": 0.0, "training.updates": 7},
        {},
        "dashed",
    )
    assert len(points(named["kfac"])) == 4
    assert [v.name for v in choose_variants([], grid, named)] == ["batch alone", "kfac"]
    adam, kfra, kfac = choose_variants(["adam", "kfra", "kfac", "adam"], grid, named)
    assert adam.grid == grid
    assert kfra.grid == {}
    assert kfac is named["kfac"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grdi = 1", ["grdi", "did you mean 'grid'"]),
        ("[grid]\nlearning_rate = 0.1", ["grid.learning_rate", "list"]),
        ("[grid]\ndecay_share = [1.5]", ["decay_share", "<= 1"]),
        ("[grid]\nlearning_rate = [0.1, 0.1]", ["different"]),
        ("[variants.a]\nmethod = 'kfar'", ["variants.a.method", "did you mean 'kfra'"]),
        ("[variants.a]\nmethod = 'kfra'\nsets = {}", ["unknown key sets", "did you mean 'set'"]),
        ("[variants.a]\nmethod = 'kfra'\nline = 'dotted'", ["solid or dashed"]),
        ("[variants.'a,b']\nmethod = 'kfra'", ["commas"]),
        ("[variants.'a b']\nmethod = 'kfra'\n[variants.a-b]\nmethod = 'kfra'", ["too much alike"]),
        ("[variants.a]\nmethod = 'kfra'\nset = { 'training.seed' = 1 }", ["training.seed"]),
        ("variants = 3", ["variants"]),
        ("[variants]\na = 1", ["variants.a"]),
        ("grid = [", ["not valid TOML"]),
    ],
)
def test_what_is_wrong_with_a_grid_file_is_named(tmp_path, text, words):
    (tmp_path / "g.toml").write_text(text)
    with pytest.raises(ConfigError) as error:
        read_grid(str(tmp_path / "g.toml"))
    for word in words:
        assert word in str(error.value)


def test_unknown_methods_are_all_named():
    with pytest.raises(ConfigError, match=r"kfar.*\n.*adm"):
        choose_variants(["kfar", "adam", "adm"], {}, {})
    with pytest.raises(ConfigError, match="--methods is missing"):
        choose_variants([], {}, {})


def test_a_label_names_every_setting_of_a_point():
    assert (
        GridPoint({"damping_a": 0.5, "damping_rule": "lm"}).label
        == "damping_a 0.5, damping_rule lm"
    )


def test_each_method_computes_in_its_own_precision_unless_one_is_given(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = np.random.default_rng(0).standard_normal((30, 2))
    config = tmp_path / "c.toml"
    config.write_text('[data]\nfile = "x.h5"\n[network]\nhidden = [2]\nloss = "squared_error"\n')
    names = ("kfra", "levenberg_marquardt")

    def precisions(*sets):
        variants = [Variant(name, name) for name in names]
        request = ComparisonRequest(config, sets, {}, variants, 1, 3, None)
        return [run.settings.get("training.dtype") for run in make_plan(request, tmp_path, 1).runs]

    assert precisions() == [None, "float64"]
    assert precisions("training.dtype=float32") == [None, None]

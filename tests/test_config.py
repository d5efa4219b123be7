"""Configurations: precedence, sources, all problems at once, near names, hostile input, the TOML
writer.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnopt import optimizers
from gnopt.config import differences, load, parse_set
from gnopt.errors import ConfigError, SettingProblem, SettingsError
from gnopt.settings import sections
from gnopt.toml import to_toml

GOOD = """
[data]
file = "x.h5"
[network]
hidden = [4, 2]
loss = "squared_error"
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "c.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems(folder: Path, text: str | bytes, *sets: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(write(folder, text), sets)
    return error.value.problems


def test_precedence_and_sources(tmp_path):
    path = write(tmp_path, GOOD + "[training]\nseed = 1\nupdates = 1\nbatch_size = 1\n")
    config = load(
        path,
        ["training.updates=2", "training.batch_size=2"],
        {"training.batch_size": ("--flag", 3)},
    )
    training = config.training
    assert (training.seed, training.updates, training.batch_size) == (1, 2, 3)
    found = [config.sources[f"training.{k}"] for k in ("seed", "updates", "batch_size", "dtype")]
    assert found == [str(path), "--set", "--flag", "default"]


def test_last_set_wins_and_bare_words_are_strings(tmp_path):
    sets = ["optimizer.method=adam", "optimizer.method=sgd", "network.hidden=[1, 2]"]
    config = load(write(tmp_path, GOOD), sets)
    assert config.method == "sgd"
    assert config.network.hidden == [1, 2]
    assert parse_set('a.b="x=y"') == ("a.b", "x=y", None)
    assert parse_set("a.b=x=y") == ("a.b", "x=y", None)
    assert parse_set("a.b=") == ("a.b", "", None)
    assert parse_set("a.b=1e-3")[1] == 1e-3


def test_all_problems_at_once_with_near_names(tmp_path):
    found = problems(
        tmp_path,
        """
        batch_size = 3
        [data]
        fil = "x.h5"
        validation = 1.5
        [network]
        hiden = [3]
        activation = ["tanh", "sigmod"]
        loss = "squared_eror"
        [optimizer]
        method = "kfra"
        moments = 2
        updates = 3
        [training]
        batch_size = -1
        device = "gpu"
        [traning]
        x = 1
        """,
        "training.sede=3",
        "nonsense",
        "optimizer.dampin=2",
    )
    text = "\n".join(found)
    for expected in (
        "batch_size stands outside a section (did you mean 'training.batch_size'?)",
        "unknown key data.fil (did you mean 'file'?)",
        "missing key data.file",
        "data.validation = 1.5",
        "unknown key network.hiden (did you mean 'hidden'?)",
        "(did you mean 'sigmoid'?)",
        "(did you mean 'squared_error'?)",
        "unknown key optimizer.moments",
        "; it belongs to [training]",
        "missing key network.hidden",
        "training.batch_size = -1",
        "training.device = 'gpu'",
        "unknown section [traning] (did you mean 'training'?)",
        "--set: unknown key training.sede (did you mean 'seed'?)",
        "--set 'nonsense'",
        "--set: unknown key optimizer.dampin (did you mean 'damping'?)",
        str(tmp_path / "c.toml"),
    ):
        assert expected in text, expected
    assert len(found) == 16


def test_each_problem_is_a_record_with_its_source(tmp_path):
    path = write(tmp_path, GOOD + "[training]\nsede = 3\n")
    with pytest.raises(SettingsError) as error:
        load(path, ["training.dtype=float"], {"training.device": ("--device", "gpu")})
    assert error.value.records == [
        SettingProblem(
            "training.sede", "unknown key training.sede", "", " (did you mean 'seed'?)", str(path)
        ),
        SettingProblem(
            "training.dtype",
            "training.dtype = 'float'",
            "a name out of float32, float64",
            " (did you mean 'float64'?)",
            "--set",
        ),
        SettingProblem(
            "training.device", "training.device = 'gpu'", "cpu, cuda or cuda:N", "", "--device"
        ),
    ]
    assert error.value.problems[2] == (
        "--device: training.device = 'gpu': expected cpu, cuda or cuda:N"
    )


def test_an_option_of_another_method_is_named_as_such(tmp_path):
    (problem,) = problems(tmp_path, GOOD, "optimizer.method=sgd", "optimizer.damping=1")
    assert "optimizer.damping" in problem
    assert "kfra" in problem
    assert "not of sgd" in problem


def test_unknown_method(tmp_path):
    (problem,) = problems(tmp_path, GOOD + "[optimizer]\nmethod = 'kfar'\ndamping = 3\n")
    assert "kfar" in problem
    assert "did you mean 'kf" in problem


def test_activation_list_must_match(tmp_path):
    (problem,) = problems(tmp_path, GOOD.replace("[4, 2]", '[4, 2]\nactivation = ["tanh"]'))
    assert "network.activation" in problem
    assert "1 names for 2 hidden layers" in problem
    assert load(write(tmp_path, GOOD)).network.activation == ["tanh", "tanh"]


HOSTILE = {
    "empty": b"",
    "binary": bytes(range(256)),
    "not closed": b"[data",
    "twice": b"[data]\nfile='a'\nfile='b'",
    "deep": b"a=" + b"[" * 5000 + b"]" * 5000,
    "long number": GOOD.encode() + b"[training]\nseed=" + b"9" * 5000,
    "big number": GOOD.encode() + b"[training]\nseed=" + b"9" * 50,
    "section is a number": b"data = 3",
    "section is a list": b"[[data]]\nfile='x'",
    "date": GOOD.encode() + b"[training]\nseed=2020-01-01",
    "nan": GOOD.encode() + b"[training]\nmax_seconds=nan",
    "inf": GOOD.encode() + b"[training]\nmax_seconds=inf",
    "bool for int": GOOD.encode() + b"[training]\nseed=true",
    "table for int": GOOD.encode() + b"[training.seed]\na=1",
    "number for a name": GOOD.replace('"squared_error"', "7").encode(),
    "mixed list": GOOD.replace("[4, 2]", '[4, "2"]').encode(),
    "negative width": GOOD.replace("[4, 2]", "[4, -2]").encode(),
    "method is a list": GOOD.encode() + b"[optimizer]\nmethod=['kfra']",
    "odd keys": GOOD.encode() + b'["a b"]\n"c.d" = 1\n[training]\n"\\u0000" = 2\n"" = 1',
    "utf-16 without a mark": GOOD.encode("utf-16-le"),
    "memory": GOOD.encode() + b"[training]\nmemory='lots'",
    "auto memory": GOOD.encode() + b"[training]\nmemory='auto'",
    "plug-in where none is allowed": GOOD.encode() + b"[training]\ndtype='a:b'",
    "file with a NUL": GOOD.replace("x.h5", "x\\u0000.h5").encode(),
    "home of nobody": GOOD.replace("x.h5", "~no-such-user/x.h5").encode(),
    "plug-in that is not there": GOOD.replace("squared_error", "absent_module:Loss").encode(),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_configuration_errors(tmp_path, text):
    found = problems(tmp_path, text)
    assert all("c.toml" in problem for problem in found)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_random_files_never_end_otherwise(tmp_path_factory, text):
    with pytest.raises(ConfigError):
        load(write(tmp_path_factory.mktemp("c"), text))


@given(st.text(max_size=40))
def test_random_sets_never_end_otherwise(text):
    key, _value, problem = parse_set(text)
    assert problem or key.count(".") == 1


def test_syntax_errors_name_the_line(tmp_path):
    (problem,) = problems(tmp_path, "[data]\nfile = 'x'\nfoo\n")
    assert "c.toml" in problem
    assert "line 3" in problem


def test_missing_files_and_folders(tmp_path):
    write(tmp_path, GOOD)
    with pytest.raises(ConfigError, match=r"did you mean 'c.toml'"):
        load(tmp_path / "d.toml")
    with pytest.raises(ConfigError, match="is a directory; expected a configuration"):
        load(tmp_path)


def test_the_data_file_is_sought_beside_the_configuration_first(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    path = write(tmp_path / "configs", GOOD)
    assert load(path).data.file == str(tmp_path / "work/x.h5")
    (tmp_path / "configs/x.h5").touch()
    assert load(path).data.file == str(tmp_path / "configs/x.h5")
    assert load(path, (), {"data.file": ("--data", "x.h5")}).data.file == str(
        tmp_path / "work/x.h5"
    )


@pytest.mark.parametrize("method", optimizers.methods())
def test_what_is_written_is_read_back(tmp_path, method):
    config = load(write(tmp_path, GOOD), [f"optimizer.method={method}"])
    again = load(write(tmp_path, to_toml(config.values())))
    assert again.values() == config.values()
    assert differences(again, config.values(), "") == []


LEAVES = (
    st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False)
)


@given(st.dictionaries(st.sampled_from("abcdef"), LEAVES | st.lists(LEAVES)))
def test_writer_round_trip(part):
    text = to_toml({"section": part})
    assert tomllib.loads(text.encode("utf-8", "surrogatepass").decode())["section"] == part


def test_changes_on_resume(tmp_path):
    path = write(tmp_path, GOOD)
    one = load(path)
    free = ["training.updates=9", "training.max_seconds=3", "training.evaluate_every=1"]
    started = one.values()
    assert differences(load(path, free), started, "") == []
    changed = load(path, ["training.seed=9", "network.hidden=[4, 3]"])
    assert [str(problem) for problem in differences(changed, started, "stop")] == [
        "network.hidden: the run was started with [4, 2], but now it is [4, 3]; stop",
        "training.seed: the run was started with 0, but now it is 9; stop",
    ]
    other = load(path, ["optimizer.method=adam", "optimizer.learning_rate=0.5"])
    assert [problem.key for problem in differences(other, started, "")] == ["optimizer.method"]


def test_a_setting_that_is_newer_than_a_run_has_its_default(tmp_path):
    path = write(tmp_path, GOOD)
    started = load(path).values()
    del started["training"]["restarts"]
    assert differences(load(path), started, "") == []
    (problem,) = differences(load(path, ["training.restarts=0"]), started, "")
    assert problem.key == "training.restarts"


def test_every_option_has_a_meaning_and_a_valid_default():
    for method in optimizers.methods():
        for section, options in sections(method).items():
            assert len({o.name for o in options}) == len(options)
            for option in options:
                assert len(option.doc) > 5, (section, option.name)
                if isinstance(option.default, (bool, int, float, str, list)):
                    assert option.parse(option.default, "s") == (option.default, None), (
                        section,
                        option.name,
                    )


CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations(path):
    assert load(path).method in optimizers.methods()


def test_a_preconditioner_that_samples_needs_a_likelihood(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        '[data]\nfile = "x.h5"\n[network]\nhidden = [3]\n'
        'loss = "siblings.losses.log_cosh:LogCosh"\n[optimizer]\nmethod = "gauss_newton"\n'
        'preconditioner = "kfac"\n'
    )
    with pytest.raises(ConfigError, match="preconditioner = 'kfac' samples") as raised:
        load(path)
    assert str(path) in str(raised.value)
    assert load(path, ["optimizer.preconditioner=kflr"]).method == "gauss_newton"


def test_wrong_settings_of_data_are_named_before_a_file_of_data_is_read(tmp_path):
    (tmp_path / "table.csv").write_text("x,y\n" + "1,2\n3,5\n" * 10)
    with pytest.raises(SettingsError, match=r"unknown key data\.splits.*'split'"):
        load(tmp_path / "table.csv", ["data.splits=end"], {"data.targets": ("--target", "y")})

"""Configurations as Windows writes them, and output to streams that are not UTF-8."""

import codecs
import io

import pytest

from gnopt.cli.streams import spell_what_streams_lack
from gnopt.config import load
from gnopt.errors import ConfigError

TEXT = '[data]\r\nfile = "dä.h5"\r\n[network]\r\nhidden = [5]\r\nloss = "squared_error"\r\n'


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    ],
)
def test_a_byte_order_mark_is_skipped(tmp_path, content):
    (tmp_path / "c.toml").write_bytes(content)
    assert load(tmp_path / "c.toml").data.file.endswith("dä.h5")


@pytest.mark.parametrize(
    "path",
    [r"C:\Users\me\d.h5", r"data\xray.h5", r"..\data\d.h5", r"\\server\d.h5", r"C:\new\t.h5"],
)
def test_backslashes_in_a_path_get_a_hint(tmp_path, path):
    (tmp_path / "c.toml").write_text(TEXT.replace("dä.h5", path), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "c.toml")
    assert "write the path with / or" in str(caught.value)


def test_other_damage_gets_no_hint(tmp_path):
    (tmp_path / "c.toml").write_text('[data]\nfile = "a.h5\n')
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "c.toml")
    assert "not valid TOML" in str(caught.value)
    assert "backslash" not in str(caught.value)


@pytest.mark.parametrize(
    "head", [b"PK\3\4", b"\x93NUMPY\1", b"MATLAB 5.0", b"\x1f\x8b", b"\0\0\x08"]
)
def test_data_in_place_of_a_configuration_name_the_import(tmp_path, head):
    (tmp_path / "a.bin").write_bytes(head + bytes(range(256)))
    for path in (tmp_path / "a.bin", tmp_path):
        with pytest.raises(ConfigError, match="gnopt dataset import"):
            load(path)


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii", "cp437", "koi8-r", "utf-8"])
@pytest.mark.parametrize("command", [("list",), ("config", "keys"), ("nonsense-\udcff",)])
def test_output_goes_to_a_stream_of_any_encoding(gnopt, monkeypatch, encoding, command):
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    assert gnopt(*command).code == (0 if len(command[0]) < 9 else 2)
    text = "".join(stream.buffer.getvalue().decode(encoding) for stream in (out, err))
    assert text


def test_what_a_stream_lacks_is_spelled(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", out)
    spell_what_streams_lack()
    print("θ → 𝒢 ≥ é ☃", file=out, flush=True)
    assert out.buffer.getvalue() == b"theta -> G >= e ?\n"

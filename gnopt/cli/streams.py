"""Print to streams that cannot hold every character: pipes and consoles in an old code page."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

_NAME, _ASCII = "gnopt.spelled", "gnopt_ascii"
# What stands for characters that gnopt prints, where a stream cannot hold them.
_SPELLED = {
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "ε": "epsilon",
    "θ": "theta",
    "λ": "lambda",
    "μ": "mu",
    "ρ": "rho",
    "σ": "sigma",
    "Σ": "sum",
    "∂": "d",
    "√": "sqrt ",
    "‖": "||",
    "≥": ">=",
    "≤": "<=",
    "≠": "!=",
    "≈": "~",
    "∞": "inf",
    "→": "->",
    "←": "<-",
    "−": "-",
    "–": "-",
    "—": "-",
    "×": "x",
    "·": "*",
    "±": "+-",
    "…": "...",
    "•": "*",
    "■": "#",
    "●": "*",
}


def spell_what_streams_lack() -> None:
    """Let stdout and stderr take any text, whatever their encoding.

    A character that the encoding lacks is spelled out, loses its accent, or becomes "?".
    """
    codecs.register_error(_NAME, _spelled)
    codecs.register(_plain_ascii)
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        ascii_only = codecs.lookup(stream.encoding).name == "ascii"
        stream.reconfigure(encoding=_ASCII if ascii_only else None, errors=_NAME)


def _plain_ascii(name: str) -> codecs.CodecInfo | None:
    """Return ASCII under another name: click takes a stream of ASCII for a mistake, and prints
    UTF-8 there.
    """
    if name != _ASCII:
        return None
    known = codecs.lookup("ascii")
    return codecs.CodecInfo(
        known.encode,
        known.decode,
        known.streamreader,
        known.streamwriter,
        known.incrementalencoder,
        known.incrementaldecoder,
        name=_ASCII,
    )


def _spelled(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_spell, error.object[error.start : error.end])), error.end


def _spell(character: str) -> str:
    """Return ASCII in place of a character.

    >>> [_spell(c) for c in "ε𝒢ā√"]
    ['epsilon', 'G', 'a', 'sqrt ']
    """
    if character in _SPELLED:
        return _SPELLED[character]
    if unicodedata.combining(character):
        return ""
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or "?"

"""Decode pictures with Pillow, which the extra ``image`` installs: all of a set in one form.

Files of one folder may be of 8 bits, 16 bits or floats, grey, in color, with a palette or partly
transparent. `survey` looks at all of them and chooses one type of numbers and one number for white,
so that the same grey is the same number in every picture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gnopt.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

BYTE_WHITE, WORD_WHITE = 255, 65535


@dataclass(frozen=True)
class PictureForm:
    """How every picture of a set is read."""

    dtype: np.dtype[Any]
    white: int  # the number for white; 0: numbers have a meaning of their own
    color: bool = False
    size: tuple[int, int] | None = None  # (width, height) to resize to
    notes: tuple[str, ...] = ()  # what a user should know of the choice

    @property
    def scale(self) -> float | None:
        """The factor that makes white 1, or None if numbers stay as they are."""
        return 1 / self.white if self.white > 1 else None

    def read(self, path: Path) -> np.ndarray:
        """Return a picture, (height, width) grey or (height, width, 3) in color.

        Transparent parts show a white ground. Raises DataError if Pillow cannot read the file.
        """
        with _opened(path) as picture:
            if _is_deep(picture):
                return self._of_deep(picture)
            plain = _on_white(picture).convert("RGB" if self.color else "L")
            if self.size and plain.size != self.size:
                plain = plain.resize(self.size, _resampling())
            values = np.asarray(plain, dtype=np.uint8)
        if self.dtype == np.uint8 or not self.white:
            return values.astype(self.dtype)
        if self.dtype.kind == "f":
            greys: np.ndarray = (values * (self.white / BYTE_WHITE)).astype(self.dtype)
        else:
            greys = values.astype(self.dtype) * self.dtype.type(self.white // BYTE_WHITE)
        return greys

    def _of_deep(self, picture: Image) -> np.ndarray:
        """Return a grey picture of more than 8 bits."""
        values = np.asarray(picture)
        if self.size and picture.size != self.size:
            from PIL import Image

            low, high = values.min(), values.max()
            exact = Image.fromarray(values.astype(np.float32))
            values = np.asarray(exact.resize(self.size, _resampling())).clip(low, high)
        if self.dtype.kind != "f":
            values = np.rint(values)
        values = values.astype(self.dtype)
        return np.stack([values] * 3, axis=-1) if self.color else values


@dataclass
class _Survey:
    """What was seen of the pictures of a set."""

    plain: int = 0  # pictures of 8 bits
    words: int = 0  # of 16 or 32 bits
    floats: int = 0
    transparent: int = 0
    several: int = 0  # files with several pictures
    low: float = np.inf  # of the numbers in pictures of more than 8 bits
    high: float = -np.inf

    def see(self, picture: Image) -> None:
        if not _is_deep(picture):
            self.plain += 1
            self.transparent += picture.has_transparency_data
        else:
            if picture.mode.startswith("F"):
                self.floats += 1
            else:
                self.words += 1
            values = np.asarray(picture)
            if not np.isfinite(values).all():
                raise ValueError("it holds numbers that are not finite")
            self.low = min(self.low, float(values.min()))
            self.high = max(self.high, float(values.max()))
        self.several += getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO"

    def form(self) -> tuple[np.dtype[Any], int, list[str]]:
        """Return the type of the numbers, the number for white, and what to say of them."""
        reach = f"from {self.low:g} to {self.high:g}"
        if not self.floats and not self.words:
            return np.dtype(np.uint8), BYTE_WHITE, []
        if self.floats:
            float32 = np.dtype(np.float32)
            if self.low >= 0 and self.high <= 1 and not self.words:
                return float32, 1, [f"pictures of floats are kept: {reach}, white is 1"]
            if self.low >= 0 and self.high <= BYTE_WHITE:
                note = f"pictures of floats {reach} are read as greys up to 255"
                return float32, BYTE_WHITE, [f"{note}; --scale 1 keeps the numbers as they are"]
            return float32, 0, [f"pictures of floats {reach} are kept as they are"]
        if self.low < 0 or self.high > WORD_WHITE:
            return (
                np.dtype(np.int32),
                0,
                [f"pictures of whole numbers {reach} are kept as they are"],
            )
        if self.high <= BYTE_WHITE:
            return np.dtype(np.uint8), BYTE_WHITE, []
        note = f"pictures of 16 bits are kept: {reach}, white is 65535"
        if self.high < WORD_WHITE / 4:
            note += f"; --scale 1/{self.high:.0f} makes the lightest of them white"
        return np.dtype(np.uint16), WORD_WHITE, [note]

    def notes(self) -> Iterator[str]:
        if self.transparent:
            files = "picture" if self.transparent == 1 else "pictures"
            yield f"{self.transparent:,} {files} with transparency, shown on a white ground"
        if self.several:
            files = "file holds" if self.several == 1 else "files hold"
            yield f"{self.several:,} {files} several pictures: the first of each is used"


def survey(
    files: Sequence[Path], color: bool = False, size: tuple[int, int] | None = None
) -> PictureForm:
    """Return the form in which all of these pictures are read.

    Bytes, words of 16 bits and floats keep their type; where they are mixed, the widest of them
    holds all, with one number for white. Raises DataError without Pillow, or for a file that Pillow
    cannot read.
    """
    seen = _Survey()
    for path in files:
        with _opened(path) as picture:
            seen.see(picture)
    dtype, white, notes = seen.form()
    return PictureForm(dtype, white, color, size, (*notes, *seen.notes()))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image]:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise DataError(
            f"{path}: reading pictures needs Pillow: pip install 'gnopt[image]'"
        ) from None
    try:
        with Image.open(path) as picture:
            if not _is_deep(picture):
                ImageOps.exif_transpose(picture, in_place=True)  # cameras note how they were held
            yield picture
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: not a picture that Pillow can read: {reason}") from error


def _is_deep(picture: Image) -> bool:
    return picture.mode.startswith(("I", "F"))


def _on_white(picture: Image) -> Image:
    """Return the picture on a white ground, if it has transparent parts."""
    if not picture.has_transparency_data:
        return picture
    from PIL import Image

    drawn = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn)


def _resampling() -> Any:
    from PIL import Image

    return Image.Resampling.LANCZOS

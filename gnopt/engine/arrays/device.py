"""Devices by name: ``cpu``, ``cuda``, ``cuda:1``. The one grammar of them, and the backend behind
each.
"""

from __future__ import annotations

from dataclasses import dataclass

from gnopt.engine.arrays.base import Backend
from gnopt.errors import ConfigError
from gnopt.registry import discover


@dataclass(frozen=True)
class Device:
    """One device: the class of its backend and, where a backend has several devices, which one."""

    backend: type[Backend]
    index: int = 0

    @classmethod
    def parse(cls, text: str) -> Device:
        """Read ``NAME`` or ``NAME:N``, where NAME is a backend's; ConfigError for anything else.

        Whether the machine has the device is for ``check`` or ``open`` to say.
        """
        name, colon, number = text.partition(":")
        backend = _backends().get(name)
        if backend is None or (colon and not backend.numbered):
            raise ConfigError(f"unknown device '{text}': expected {cls.expected()}")
        if colon and not (number.isascii() and number.isdigit()):
            raise ConfigError(f"device '{text}': expected {cls.expected()} with a whole number N")
        return cls(backend, int(number or 0))

    @staticmethod
    def expected() -> str:
        """Return all that ``parse`` accepts, in words: "cpu, cuda or cuda:N"."""
        forms = []
        for name, backend in _backends().items():
            forms += [name, f"{name}:N"] if backend.numbered else [name]
        return " or ".join(filter(None, [", ".join(forms[:-1]), forms[-1]]))

    def check(self) -> None:
        """Raise the ConfigError that ``open`` would raise; allocates nothing on the device, not
        even a context.
        """
        self.backend.check(self.index)

    def open(self) -> Backend:
        """Return a backend that computes on this device; ConfigError where it cannot be had."""
        return self.backend(self.index)


def get_backend(device: str) -> Backend:
    """Return a backend for a device given by name; ConfigError where it cannot be had."""
    return Device.parse(device).open()


def check_device(device: str) -> None:
    """Raise the ConfigError that ``get_backend`` would raise, without touching the device."""
    Device.parse(device).check()


def shared_by(processes: int) -> dict[str, str]:
    """Return environment variables for each of several processes that share devices: an equal part
    of a device's memory.
    """
    shares: dict[str, str] = {}
    for backend in _backends().values():
        shares |= backend.shared_by(processes)
    return shares


def _backends() -> dict[str, type[Backend]]:
    return discover(__name__.rpartition(".")[0], "BACKEND")

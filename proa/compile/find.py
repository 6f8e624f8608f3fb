"""Backends by name: the ones that come along, and those of installed packages."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final

from proa.compile.backend import API, Backend, Device
from proa.config import config
from proa.errors import ArgumentError, DeviceError, MissingExtra, message

BUILT_IN: Final = {
    "numpy": "proa.backends.numpy",
    "null": "proa.backends.null",
    "cpu": "proa.backends.cpu",
    "xla": "proa.backends.xla",
}
EXTRAS: Final = {"xla": "jax"}
_LOADED: Final[dict[str, Backend]] = {}


def backend(name: str) -> Backend:
    """The backend of this name, made when first asked for."""
    if name not in _LOADED:
        _LOADED[name] = _load(name)
    return _LOADED[name]


def _load(name: str) -> Backend:
    if name in BUILT_IN:
        try:
            made: Backend = import_module(BUILT_IN[name]).make()
        except ModuleNotFoundError as error:
            if error.name != EXTRAS.get(name):
                raise
            hint = f"pip install 'proa[{name}]'"
            raise MissingExtra(
                message("device", f"{name!r} without {error.name}", "it", hint)
            ) from None
        return made
    for point in entry_points(group="proa.backends"):
        if point.name == name:
            made = point.load()()
            if made.api != API:
                raise DeviceError(message("device", f"{name!r} of interface {made.api}", f"{API}"))
            return made
    raise DeviceError(message("device", repr(name), "one of " + ", ".join(backend_names())))


def backend_names() -> list[str]:
    """Names that may be asked for; a name is no promise that its package is installed."""
    return [*BUILT_IN, *sorted(p.name for p in entry_points(group="proa.backends"))]


def device(spelling: Any) -> Device:
    """The device for `"xla"`, `"xla:1"` or a Device."""
    if isinstance(spelling, Device):
        return spelling
    if not isinstance(spelling, str):
        raise ArgumentError(message("device", f"{spelling!r:.60}", 'a name such as "numpy"'))
    name, _, number = spelling.partition(":")
    if number and not number.isdigit():
        raise ArgumentError(message("device", repr(spelling), 'a number after the colon: "xla:0"'))
    found = backend(name).devices()
    index = int(number or 0)
    if index >= len(found):
        raise DeviceError(message("device", repr(spelling), f"a number below {len(found)}"))
    return found[index]


def default_device() -> Device:
    """Where new tensors are made."""
    if not _DEFAULT:
        _DEFAULT.append(device(config.device))
    return _DEFAULT[0]


def set_default_device(spelling: Any) -> None:
    """New tensors are made on this device from now on."""
    _DEFAULT[:] = [device(spelling)]


_DEFAULT: Final[list[Device]] = []

"""All known families of ViTs: agcam's own, those that a program registers, and those of installed packages."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, overload

from torch import nn

from agcam.errors import InputError
from agcam.explainers.vit_parts import ViTParts
from agcam.io.plugins import OwnModules, Plugins

_BUILT_IN = "agcam.explainers.families"

Recognize = Callable[[nn.Module], ViTParts | None]
_F = TypeVar("_F", bound=Recognize)


@dataclass(frozen=True)
class Family:
    """The declaration of a family of ViTs.

    Attributes:
        name: what it is called.
        library: the package that its modules come from.
        recognize: from a module to its parts, or None if it is none of the family.
        help: what is explained, and what is not.
    """

    name: str
    library: str
    recognize: Recognize
    help: str = ""

    @property
    def source(self) -> str:
        """Where the function is defined, as "my_package.module:function"."""
        return f"{getattr(self.recognize, '__module__', '?')}:{getattr(self.recognize, '__qualname__', '?')}"


_REGISTERED: dict[str, Family] = {}
_OWN = OwnModules(_BUILT_IN)


@overload
def register_family(function: _F, /) -> _F: ...
@overload
def register_family(*, name: str = ..., library: str = ..., help: str = ...) -> Callable[[_F], _F]: ...
def register_family(
    function: _F | None = None,
    /,
    *,
    name: str = "",
    library: str = "",
    help: str = "",  # noqa: A002  # as for methods
) -> _F | Callable[[_F], _F]:
    """Make the ViTs of a library, or your own, known to `agcam.explain` and every method.

    The function is called with each module of a model that is explained, so it decides by the module's class, and
    imports no library for it. It returns the module's `ViTParts`, or None if the module is no such ViT. Every output
    that agcam makes of the parts is compared with the model's own: wrong parts give an error, not a wrong map.

    A package that others install names the function as an entry point, too, so that it is there without an import:

        [project.entry-points."agcam.families"]
        my_vit = "my_package.families:my_vit"

    Args:
        function: from a module to its parts, where the decorator is used without arguments. It is returned as it is.
        name: the function's own if left out.
        library: the package that the modules come from; the function's own if left out.
        help: what is explained and what is not. The first line of the function's docstring if left out.

    Raises:
        InputError: if another function has the name, or `function` is none.
    """

    def register(function: _F) -> _F:
        if not callable(function):
            raise InputError(f"a family must be a function from a module to its parts, found {function!r}")
        about = help or (inspect.getdoc(function) or "").partition("\n")[0]
        root = (getattr(function, "__module__", None) or "").partition(".")[0]  # code of `exec` has none
        _add(Family(name or getattr(function, "__name__", ""), library or root, function, about))
        return function

    return register if function is None else register(function)


def families() -> list[Family]:
    """Return all families of ViTs that are explained: registered ones and those of packages first, then agcam's own."""
    _OWN.load()
    _PLUGINS.load()
    ours = [family for family in _REGISTERED.values() if family.source.startswith(_BUILT_IN)]
    others = [family for family in _REGISTERED.values() if family not in ours]
    return others + sorted(ours, key=lambda family: family.name)


def defined_in(module: nn.Module, library: str) -> bool:
    """Return whether the class of `module`, or one that it is derived from, comes from a library."""
    return any(base.__module__.partition(".")[0] == library for base in type(module).__mro__)


def _add(family: Family) -> None:
    if not family.name.isidentifier():
        raise InputError(f"a family cannot be called {family.name!r} ({family.source}); use letters and underscores")
    _OWN.load()  # so that whoever comes second is a stranger, never one of ours
    known = _REGISTERED.get(family.name)
    if known is not None and known.source != family.source:
        raise InputError(f"{known.source} and {family.source} are both called {family.name!r}; rename one")
    _REGISTERED[family.name] = family  # run again, as in a notebook, it replaces what it declared before


def _register_plugin(name: str, function: Recognize) -> None:
    if not any(family.recognize is function for family in _REGISTERED.values()):  # its module may have done it
        register_family(name=name)(function)


_PLUGINS = Plugins("family", "agcam.families", _register_plugin)

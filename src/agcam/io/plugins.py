"""Python objects that others wrote: named as "module:name", or declared by an installed package."""

from __future__ import annotations

import pkgutil
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from threading import RLock
from typing import Any

from agcam.errors import InputError, brief


def import_object(kind: str, text: str) -> Any:
    """Import what "package.module:name" names.

    Args:
        kind: what it is to be, for messages: "method", "metric".
        text: module and name.

    Raises:
        InputError: whatever the module raises when it is imported.
    """
    module, _, name = text.partition(":")
    try:
        return getattr(import_module(module), name)
    except Exception as error:  # whatever a module does when it is imported
        raise InputError(
            f"{kind} {text!r} cannot be imported ({type(error).__name__}: {brief(error)}); expected "
            f"package.module:name of an installed package, or of a folder that PYTHONPATH names"
        ) from error


class OwnModules:
    """Import every module of one of agcam's packages, once; each registers what it declares.

    Args:
        package: its name.
    """

    def __init__(self, package: str) -> None:
        self._package = package
        self._loaded = False
        self._lock = RLock()

    def load(self) -> None:
        """Import them, unless that was done before; another thread waits until all are there."""
        with self._lock:
            if self._loaded:
                return
            self._loaded = True  # first: what the modules register asks for this, too
            package = import_module(self._package)
            for module in pkgutil.walk_packages(package.__path__, f"{self._package}."):
                import_module(module.name)


class Plugins:
    """Load the entry points of installed packages, once; warn of each that fails, and load the others.

    Args:
        kind: what they add, for messages: "method", "metric".
        group: of the entry points.
        register: called with the name and the object of each; what it raises counts as a failure to load.
    """

    def __init__(self, kind: str, group: str, register: Callable[[str, Any], object]) -> None:
        self.kind = kind
        self.group = group
        self.broken: dict[str, str] = {}
        """By the name of an entry point: why it cannot be loaded."""
        self.loaded = False
        self._register = register

    def load(self) -> None:
        """Load all that are installed, unless that was done before."""
        if self.loaded:
            return
        self.loaded = True
        for point in entry_points(group=self.group):
            owner = point.dist.name if point.dist is not None else "an unknown package"
            try:
                self._register(point.name, point.load())
            except Exception as error:  # whatever a module does when it is imported
                self.broken[point.name] = (
                    f"{self.kind} {point.name!r} of the installed package {owner} cannot be loaded "
                    f"({type(error).__name__}: {brief(error)}); update {owner} or uninstall it"
                )
                warnings.warn(self.broken[point.name], stacklevel=2)

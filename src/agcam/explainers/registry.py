"""All known methods: agcam's own, those that a program registers, and those of installed packages."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

from agcam.errors import InputError
from agcam.io.plugins import OwnModules, Plugins, import_object

_BUILT_IN = "agcam.explainers.methods"

Needs = Literal["recording", "forward"]
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True)
class MethodSpec:
    """The declaration of a method.

    Attributes:
        name: what it is called in `agcam.explain`, on the command line, in tables and in metrics' names.
        function: makes the heatmaps. Its keyword-only parameters are the method's options.
        needs: "recording" or "forward", see `register_method`.
        control: whether its heatmaps know nothing of the image.
        signed: whether its heatmaps can be negative, where something speaks against the class.
        class_specific: whether its heatmaps depend on the class that is explained.
        help: what it does, in a sentence or two for people who do not build such models.
    """

    name: str
    function: Callable[..., Any]
    needs: Needs = "recording"
    control: bool = False
    signed: bool = False
    class_specific: bool = True
    help: str = ""

    @property
    def source(self) -> str:
        """Where the function is defined, as "my_package.module:function"."""
        named = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return f"{getattr(self.function, '__module__', '?')}:{named}"

    @property
    def options(self) -> list[str]:
        """The names of its options."""
        parameters = inspect.signature(self.function).parameters.values()
        return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


_REGISTERED: dict[str, MethodSpec] = {}
_OWN = OwnModules(_BUILT_IN)


@overload
def register_method(function: _F, /) -> _F: ...
@overload
def register_method(
    *,
    name: str = ...,
    needs: Needs = ...,
    control: bool = ...,
    signed: bool = ...,
    class_specific: bool = ...,
    help: str = ...,
) -> Callable[[_F], _F]: ...
def register_method(
    function: _F | None = None,
    /,
    *,
    name: str = "",
    needs: Needs = "recording",
    control: bool = False,
    signed: bool = False,
    class_specific: bool = True,
    help: str = "",  # noqa: A002  # what argparse and everybody calls it
) -> _F | Callable[[_F], _F]:
    """Make a function known as a method to `agcam.explain`, `--methods`, `--explanation.methods` and the report.

    Examples:
        >>> from agcam.explainers.patch_grid import on_patches
        >>> @agcam.register_method(class_specific=False, help="How long the value of each patch is in the last block.")
        ... def value_norm(recording, targets, *, order: float = 2.0):
        ...     norms = recording.calls[-1].value.float().norm(order, dim=-1).mean(1)
        ...     return on_patches(recording, norms)[:, None].expand(-1, targets.shape[1], -1, -1)
        >>> agcam.explain(model, images, method="value_norm", order=1.0).heatmaps.shape
        torch.Size([4, 1, 14, 14])

    A package that others install names the function as an entry point, too, so that it is there without an import:

        [project.entry-points."agcam.methods"]
        value_norm = "my_package.value_norm:value_norm"

    Args:
        function: the method, where the decorator is used without arguments. It is returned as it is.
        name: the function's own if left out. Letters, digits and underscores.
        needs: what the function works from.
            "recording": `function(recording, targets, *, options) -> heatmaps` with the `Recording` of a forward and
            targets (B, T) int64; in training it is the validation step's own forward, so that nothing is run twice.
            Heatmaps are (B, T, h, w) float, on the patch grid or finer.
            "forward": `function(recording, *, options) -> (targets -> heatmaps)`. The function runs the model itself
            on `recording.images`, with `eager_forward`, say. Outside training its recording is an empty one.
        control: whether the heatmaps know nothing of the image; then every benchmark has them.
        signed: whether heatmaps can be negative, where something speaks against the class.
        class_specific: whether heatmaps depend on the class.
        help: what the method does, in a sentence or two for people who do not build such models. The first line of
            the function's docstring if left out.

    Raises:
        InputError: if another function has the name, or the name or `needs` makes no sense.
    """

    def register(function: _F) -> _F:
        about = help or (inspect.getdoc(function) or "").partition("\n")[0]
        named = name or getattr(function, "__name__", "")
        _add(MethodSpec(named, function, needs, control, signed, class_specific, about))
        return function

    return register if function is None else register(function)


def methods() -> list[str]:
    """Return the names of all methods: agcam's own, then registered ones and those of installed packages."""
    _OWN.load()
    _PLUGINS.load()
    ours = sorted(name for name, spec in _REGISTERED.items() if spec.source.startswith(_BUILT_IN))
    return list(dict.fromkeys([*ours, *_REGISTERED]))


def controls() -> list[str]:
    """Return the names of the methods whose heatmaps know nothing of the image."""
    return [name for name in methods() if _REGISTERED[name].control]


def registered(label: str) -> MethodSpec | None:
    """Return what is registered for a label such as "rollout:head_fusion=max". No code that it may name is imported."""
    name, _, rest = label.partition(":")
    _OWN.load()
    if name not in _REGISTERED:
        _PLUGINS.load()
    source = f"{name}:{rest.partition(':')[0]}"
    return _REGISTERED.get(name) or next((s for s in _REGISTERED.values() if s.source == source), None)


def is_control(label: str) -> bool:
    """Return whether the method of a label is known for heatmaps that know nothing of the image."""
    spec = registered(label)
    return spec is not None and spec.control


def find_method(method: str | Callable[..., Any], options: Collection[str] = ()) -> MethodSpec:
    """Return the declaration of a method.

    Args:
        method: one of `methods()`; "my_package.module:function"; or a function. One that is not registered has the
            declaration that `register_method` gives without arguments.
        options: names of options that it is going to be called with.

    Raises:
        InputError: if there is no such method, or it has no such option, with those that there are.
    """
    if not isinstance(method, str):
        spec = _declared(method, getattr(method, "__name__", type(method).__name__))
    elif ":" in method:
        spec = _declared(import_object("method", method), method)
    else:
        found = registered(method)
        if found is None:
            raise InputError(
                _PLUGINS.broken.get(method) or f"unknown method {method!r}; known are {', '.join(methods())}"
            )
        spec = found
    if options:
        known = spec.options
        for name in options:
            if name not in known:
                raise InputError(f"{spec.name} has no option {name!r}; known are {', '.join(known) or 'none'}")
    return spec


def _add(spec: MethodSpec) -> None:
    _check_callable(spec.function, spec.name)
    if not re.fullmatch(r"[A-Za-z_]\w*", spec.name, re.ASCII) or spec.name == "all":
        raise InputError(
            f"a method cannot be called {spec.name!r} ({spec.source}); use letters, digits and underscores, not 'all'"
        )
    if spec.needs not in ("recording", "forward"):
        raise InputError(f"method {spec.name}: needs must be 'recording' or 'forward', found {spec.needs!r}")
    _OWN.load()  # so that whoever comes second is a stranger, never one of ours
    known = _REGISTERED.get(spec.name)
    if known is not None and known.source != spec.source:
        raise InputError(f"{known.source} and {spec.source} are both called {spec.name!r}; rename one")
    _REGISTERED[spec.name] = spec  # run again, as in a notebook, it replaces what it declared before


def _declared(function: Any, name: str) -> MethodSpec:
    _check_callable(function, name)
    _OWN.load()
    return next((spec for spec in _REGISTERED.values() if spec.function is function), MethodSpec(name, function))


def _check_callable(function: Any, name: str) -> None:
    if not callable(function):
        raise InputError(f"a method must be a function, {name} is a {type(function).__name__}")


def _register_plugin(name: str, function: Any) -> None:
    if not any(spec.function is function for spec in _REGISTERED.values()):  # its module may have done it
        register_method(name=name)(function)


_PLUGINS = Plugins("method", "agcam.methods", _register_plugin)

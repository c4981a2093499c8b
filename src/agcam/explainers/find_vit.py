"""Finds the ViT inside a model, and its parts."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from torch import nn

from agcam.errors import InputError, ModelError
from agcam.explainers.families.timm import missing_parts
from agcam.explainers.family_registry import Family, families
from agcam.explainers.vit_parts import ViTParts, model_name, refusal, unwrap
from agcam.module_tree import named_modules

_found: WeakKeyDictionary[nn.Module, tuple[object, frozenset[str]]] = WeakKeyDictionary()


def inspect_vit(model: nn.Module, vit: str | None = None) -> ViTParts:
    """Find the ViT that is `model` or that `model` contains, and its parts.

    Args:
        model: any module.
        vit: the name of the ViT among the model's modules, such as "encoder.trunk", where there are several.

    Raises:
        InputError: if there are several ViTs and `vit` names none of them.
        ModelError: if there is no ViT that can be explained, with what was found instead.
    """
    model = unwrap(model)
    found = _recognized(model)
    if vit is not None:
        modules = dict(named_modules(model))
        if vit not in modules:
            known = ", ".join(repr(path) for path in found) or "none"
            raise InputError(f"{model_name(model)} has no module {vit!r}; its ViTs are {known}")
        module = unwrap(modules[vit])
        return _parts_or_error(_recognize(module, families()) or _unknown(module))
    if len(found) > 1:
        known = ", ".join(repr(path) for path in found)
        raise InputError(
            f"{model_name(model)} has several ViTs, {known}; say which to explain, such as vit={next(iter(found))!r}"
        )
    if found:
        return _parts_or_error(next(iter(found.values())))
    inner = getattr(model, "backbone", None)  # of which the error can tell more
    raise _unknown(inner if isinstance(inner, nn.Module) else model)


def _recognized(model: nn.Module) -> dict[str, ViTParts | ModelError]:
    """Return the ViTs in a model by their paths. Which modules are looked at is remembered for each model."""
    known, modules = families(), named_modules(model)
    made_of = (tuple(known), tuple((path, id(module), type(module)) for path, module in modules))
    before, paths = _found.get(model, (None, frozenset()))
    found = {
        path: parts
        for path, module in modules
        # what a compiled ViT wraps is the same one
        if (before != made_of or path in paths)
        and "_orig_mod" not in module._modules
        and (parts := _recognize(module, known)) is not None
    }
    _found[model] = made_of, frozenset(found)
    return found


def _recognize(module: nn.Module, known: list[Family]) -> ViTParts | ModelError | None:
    """Return the parts of a ViT, or why there are none of it; None for any other module."""
    for family in known:
        try:
            parts = family.recognize(module)
        except ModelError as error:
            return error
        if parts is not None:
            return parts
    return None


def _parts_or_error(found: ViTParts | ModelError) -> ViTParts:
    if isinstance(found, ModelError):
        raise found
    return found


def _unknown(module: nn.Module) -> ModelError:
    found = ", ".join(name for name, _ in module.named_children()) or "no modules"
    return refusal(module, f"has no {', '.join(missing_parts(module)) or 'known parts'} (found {found})")

"""What is set on a shared model answers only to the thread that set it: others may use the model meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, get_ident
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

_lock = Lock()


class OwnThreadHook:
    """A hook of agcam's: it runs in the thread that made it and does nothing in others."""

    def __init__(self, hook: Callable[..., Any]) -> None:
        self.hook = hook
        self.thread = get_ident()

    def __call__(self, *args: Any) -> Any:
        """Run the hook, in its own thread."""
        return self.hook(*args) if get_ident() == self.thread else None


def before_forward(module: nn.Module, hook: Callable[..., Any], keywords: bool = False) -> RemovableHandle:
    """Register a forward pre-hook for this thread alone; `keywords` hands it the keyword arguments, too."""
    return module.register_forward_pre_hook(OwnThreadHook(hook), with_kwargs=keywords)


def after_forward(module: nn.Module, hook: Callable[..., Any], always: bool = False) -> RemovableHandle:
    """Register a forward hook for this thread alone; `always` calls it with None after a forward that failed."""
    return module.register_forward_hook(OwnThreadHook(hook), always_call=always)


def somebody_listens(module: nn.Module) -> bool:
    """Return whether a hook is called before or after the module's forward in this thread."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return any(not isinstance(hook, OwnThreadHook) or hook.thread == get_ident() for hook in hooks)


class _Answers:
    """A module's method that is answered in some threads; in the others it runs as it is."""

    def __init__(self, original: Callable[..., Any], own: bool) -> None:
        self.original = original
        self.own = own  # whether the module had it as an attribute of its own, not of its class
        self.by_thread: dict[int, Callable[..., Any]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Answer, or run the method."""
        return self.by_thread.get(get_ident(), self.original)(*args, **kwargs)


def method_of(module: nn.Module, method: str) -> Callable[..., Any]:
    """Return a method of `module` as it is called in this thread, whatever is answered in it later or elsewhere."""
    found = getattr(module, method)
    return found.by_thread.get(get_ident(), found.original) if isinstance(found, _Answers) else found


def own_attribute(module: nn.Module, method: str) -> object:
    """Return what somebody has put in place of a method on `module` itself; None, whoever answers it, if nobody has."""
    found = vars(module).get(method)
    return (found.original if found.own else None) if isinstance(found, _Answers) else found


@contextmanager
def answered(module: nn.Module, method: str, answer: Callable[..., Any]) -> Iterator[None]:
    """Have `answer` called in place of a method of `module`, such as "forward", in this thread."""
    attributes, thread = vars(module), get_ident()
    with _lock:
        if not isinstance(attributes.get(method), _Answers):
            attributes[method] = _Answers(getattr(module, method), method in attributes)
        answers: _Answers = attributes[method]
        outer = answers.by_thread.get(thread)
        answers.by_thread[thread] = answer
    try:
        yield
    finally:
        with _lock:
            if outer is not None:
                answers.by_thread[thread] = outer
            else:
                del answers.by_thread[thread]
            if not answers.by_thread:
                if answers.own:
                    attributes[method] = answers.original
                else:
                    del attributes[method]

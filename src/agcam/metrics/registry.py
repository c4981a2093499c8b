"""All known metrics: agcam's own, those that a program registers, and those of installed packages."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from agcam.errors import InputError
from agcam.io.plugins import OwnModules, Plugins, import_object
from agcam.metrics.spec import MetricSpec

_REGISTERED: dict[str, MetricSpec] = {}
_OWN = OwnModules("agcam.metrics")


def register_metric(spec: MetricSpec) -> MetricSpec:
    """Make a metric known by its name to `agcam benchmark`, its tables, plots and report; return it.

    An installable package declares an entry point instead and need not call this:

        [project.entry-points."agcam.metrics"]
        my_metric = "my_package.my_metric:SPEC"

    Raises:
        InputError: if it is not a `MetricSpec`, or its name or that of a value belongs to another metric.
    """
    if not isinstance(spec, MetricSpec):
        raise InputError(f"a metric must be an agcam.metrics.MetricSpec, found {type(spec).__name__}")
    known = _REGISTERED.get(spec.name)
    if known is not None and _source(known) != _source(spec):
        raise InputError(f"{_source(spec)} and {_source(known)} are both named {spec.name!r}; rename one")
    _check_names([*(other for other in _REGISTERED.values() if other.name != spec.name), spec])
    _REGISTERED[spec.name] = spec  # the same declaration run again, as in a notebook, replaces the first
    return spec


def registered() -> dict[str, MetricSpec]:
    """Return agcam's own metrics and those that this program registered, by name, in the order of the tables."""
    _OWN.load()
    return dict(sorted(_REGISTERED.items(), key=lambda entry: entry[1].order))


def metric_specs() -> dict[str, MetricSpec]:
    """Return all metrics by name, including those of installed packages, in the order of the tables.

    One that cannot be loaded is left out, with a warning.
    """
    _OWN.load()  # first, so that whoever takes a name twice is a stranger
    _PLUGINS.load()
    return registered()


def parse_metrics(names: Sequence[str]) -> list[MetricSpec]:
    """Find the metrics of these names, in the order of the tables.

    Args:
        names: from `metric_specs()`, "all" for all of them, or "my_package.module:spec" for one that is not registered.

    Raises:
        InputError: for an unknown name, with the known ones; or if two metrics share the name of a value.
    """
    known = metric_specs()
    chosen: dict[str, MetricSpec] = {}
    for name in names:
        if name == "all":
            chosen |= known
        elif ":" in name:
            spec = import_object("metric", name)
            if not isinstance(spec, MetricSpec):
                raise InputError(f"metric {name!r} must be an agcam.metrics.MetricSpec, found {type(spec).__name__}")
            chosen[spec.name] = spec
        elif name in known:
            chosen[name] = known[name]
        else:
            raise InputError(
                _PLUGINS.broken.get(name) or f"unknown metric {name!r}; known are {', '.join(known)} and all"
            )
    _check_names(chosen.values())
    return sorted(chosen.values(), key=lambda spec: spec.order)


def default_metrics() -> list[str]:
    """Return the names of the metrics that are measured by default: all but the slow ones."""
    return [spec.name for spec in metric_specs().values() if not spec.slow]


def _check_names(specs: Collection[MetricSpec]) -> None:
    """Raise `InputError` if a name holds strange characters, or two metrics share that of a value or a curve."""
    for spec in specs:
        if not re.fullmatch(r"[\w./-]+", spec.name):
            raise InputError(f"a metric's name may hold letters, digits and _ . / - only, found {spec.name!r}")
    owners: dict[tuple[str, str], MetricSpec] = {}
    for spec in specs:
        named = [*(("value", v.name) for v in spec.values), *(("curve", c.name) for c in spec.curves)]
        for kind, name in named:
            other = owners.setdefault((kind, name), spec)
            if other is not spec or named.count((kind, name)) > 1:
                raise InputError(f"metrics {other.name!r} and {spec.name!r} both have a {kind} {name!r}; rename one")


def _source(spec: MetricSpec) -> str:
    return f"{getattr(spec.rows, '__module__', '?')}.{getattr(spec.rows, '__qualname__', spec.name)}"


_PLUGINS = Plugins("metric", "agcam.metrics", lambda name, spec: register_metric(spec))

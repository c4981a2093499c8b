"""`agcam images --engine ray`: what it can do, and the connection to the cluster."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agcam.cli.load_model import load_model
from agcam.errors import InputError
from agcam.training.explain_batch import Request
from agcam.training.remote import is_remote

if TYPE_CHECKING:
    from collections import Counter

    from agcam.bulk.listing import Shard
    from agcam.bulk.manifest import ShardFolder
    from agcam.bulk.run import Loading, Totals


def check_for_ray(options: argparse.Namespace) -> None:
    """Check that every node can do what is asked for.

    Raises:
        InputError: for relative paths, and for overlays.
    """
    if options.overlays is not None:
        raise InputError("--overlays does not go with --engine ray; leave one of them out")
    paths = [given for given in options.input if not given.is_remote] + [options.output, options.checkpoint]
    for path in paths:
        if path is not None and not is_remote(path) and not Path(path).is_absolute():
            raise InputError(f"{path}: with --engine ray paths must be absolute; nodes work in folders of their own")


def explain_by_ray(
    options: argparse.Namespace,
    request: Request,
    folder: ShardFolder,
    listing: Callable[[Counter[str]], Iterator[Shard]],
    weights: str,
    loading: Loading,
    done: Callable[[int], None],
) -> Totals:
    """Connect to the cluster, or start one on this machine, and explain all shards there.

    Raises:
        AgcamError: as `agcam.bulk.run.explain_shards`.
    """
    import ray  # with all that it imports, for this alone
    import ray.data

    from agcam.ray import explain_shards_on_cluster

    try:
        ray.init(address=options.ray_address, log_to_driver=False, ignore_reinit_error=True)
    except (ConnectionError, ValueError) as error:
        raise InputError(f"--ray-address {options.ray_address}: {error}") from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    return explain_shards_on_cluster(
        partial(load_model, options), request, folder, listing, weights, loading, done, options.device
    )

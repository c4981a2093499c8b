"""Read groups of things in threads, one group ahead of the one that is in use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Read = TypeVar("_Read")


def read_ahead(
    groups: Iterable[Sequence[_Item]], read: Callable[[_Item], _Read], workers: int
) -> Iterator[list[_Read]]:
    """Yield what `read` makes of the items of each group, in order.

    Args:
        groups: taken one ahead of the one that is in use, never more.
        read: called in threads.
        workers: how many threads.
    """
    ahead: deque[list[Future[_Read]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="read") as pool:
        try:
            for group in groups:
                ahead.append([pool.submit(read, item) for item in group])
                if len(ahead) > 1:
                    yield [future.result() for future in ahead.popleft()]
            while ahead:
                yield [future.result() for future in ahead.popleft()]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

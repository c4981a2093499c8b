"""One file of explained images says what it cannot hold."""

from __future__ import annotations

import numpy as np
import pytest

from agcam.bulk.shard_file import ShardRows, to_table
from agcam.errors import InputError


def test_more_values_than_lists_count_are_refused() -> None:
    rows = ShardRows(["a.jpg", "b.jpg"], [None, None], [(4, 4)] * 2)
    rows.classes.append(np.zeros((2, 1), np.int32))
    rows.probabilities.append(np.zeros((2, 1), np.float32))
    rows.maps.append(np.broadcast_to(np.float16(0), (2, 1, 2**15, 2**15)))  # 2^31 values, which take no memory here
    with pytest.raises(InputError, match=r"2,147,483,648 values in one file.*smaller --shard-size"):
        to_table(rows)

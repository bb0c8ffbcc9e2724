import os
import sys

import pytest

from lightadapt_data.engines import local
from lightadapt_data.shards import Shard

SHARDS = [Shard(str(number), {}) for number in range(5)]


def where(shard):
    return {"pid": os.getpid(), "threads": int(os.environ["OMP_NUM_THREADS"])}


def fails_at_two(shard):
    if shard.name == "2":
        raise ValueError("broken shard")
    return {"n": 1}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_shard_is_done_once_by_one_thread(workers):
    found = {shard.name: counts for shard, counts in local.map_shards(where, SHARDS, workers)}
    assert set(found) == {shard.name for shard in SHARDS}
    assert {counts["threads"] for counts in found.values()} == {1}
    assert (os.getpid() in {counts["pid"] for counts in found.values()}) == (workers == 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_shard_reaches_the_caller(workers):
    with pytest.raises(ValueError, match="broken shard"):
        list(local.map_shards(fails_at_two, SHARDS, workers))


def test_threads_are_given_back(monkeypatch):
    class Torch:
        threads = 4

        def get_num_threads(self):
            return self.threads

        def set_num_threads(self, n):
            self.threads = n

    torch = Torch()
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    seen = [torch.threads for _ in local.map_shards(lambda shard: {}, SHARDS[:1], 1)]
    assert seen == [1]
    assert torch.threads == 4
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_no_shards_are_no_work():
    assert list(local.map_shards(where, [], 4)) == []

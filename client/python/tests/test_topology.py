"""Which process is what, and how the processes come to know of the same launch."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest
import torch
import torch.distributed as dist
from fake_world import each_rank, mesh
from ranks import run_ranks
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from gradwatch import _launch, _native, _shards
from gradwatch._launch import Agreement
from gradwatch._layout import Unsupported


def topology(model: nn.Module, *identity: str, resumes: str | None = None) -> _shards.Topology:
    return _shards.topology(model, list(model.named_parameters()), identity, resumes)


def test_without_a_process_group_everything_is_here() -> None:
    found = topology(nn.Linear(2, 2), "project", "run")
    assert (found.sends, found.shard, found.decides) == (True, (0, 1), True)
    assert found.launch == found.launch_of_all() is not None
    found.agreement.publish("interval", "10")
    assert found.agreement.receive("interval") is None


def test_a_world_of_one_is_no_world() -> None:
    [found] = each_rank(1, lambda rank: topology(nn.Linear(2, 2), "project", "run"))
    assert (found.sends, found.shard) == (True, (0, 1))


def test_the_run_to_go_on_with_is_kept() -> None:
    old = _native.new_launch()
    run_id, attempt_id, _ = old.split("/")
    found = topology(nn.Linear(2, 2), "project", "run", resumes=f"{run_id}/{attempt_id}@7")
    assert found.launch is not None and found.launch.split("/")[0] == run_id
    found = topology(nn.Linear(2, 2), "project", "run", resumes=run_id)
    assert found.launch is not None and found.launch.split("/")[0] == run_id


def replicated(rank: int) -> Any:
    """DDP, one run behind the other, and one that is the same once more."""
    model = DistributedDataParallel(nn.Linear(2, 2))
    found = [topology(model, "project", name) for name in ("first", "second", "second")]
    assert all(it.sends == it.decides == (rank == 0) and it.shard == (0, 1) for it in found)
    assert rank == 0 or all(it.launch is None for it in found)
    dist.barrier()
    # Another process group in the world has another first process.
    other = dist.new_group([1])
    if rank == 1:
        assert topology(DistributedDataParallel(nn.Linear(2, 2), process_group=other), "project", "other").sends
    found[0].begin_attempt("another")
    dist.barrier()
    assert found[0].later_attempt() == "another" and found[1].later_attempt() is None
    return [it.launch_of_all() for it in found]


def test_one_of_the_replicas_sends_and_all_know_the_run() -> None:
    first, second = run_ranks(2, replicated)
    assert first == second
    assert len(set(first)) == 3 and None not in first


def sharded(rank: int) -> Any:
    told = []
    model = fully_shard(nn.Linear(4, 3), mesh=init_device_mesh("cpu", (2,)))
    found = topology(model, "project", "run")
    assert (found.sends, found.shard, found.decides) == (True, (rank, 2), rank == 0)
    told.append(found.launch)

    # What the first one decides.
    if rank == 0:
        found.agreement.publish("interval", "20")
    dist.barrier()
    assert found.agreement.receive("interval") == "20" and found.agreement.receive("other") is None

    # The run to go on with is that of the checkpoint, and must be the same for all.
    old = _native.new_launch().split("/")[0] if rank == 0 else None
    texts = [old]
    dist.broadcast_object_list(texts)
    again = topology(model, "project", "run", resumes=f"{texts[0]}/{texts[0]}@7")
    assert again.launch is not None and again.launch.split("/")[0] == texts[0]
    told.append(again.launch)
    if rank == 0:
        topology(model, "project", "run", resumes=f"{texts[0]}/{texts[0]}@7")
    else:
        with pytest.raises(ValueError, match="id: the first process has '.*@7', this one '.*@8'"):
            topology(model, "project", "run", resumes=f"{texts[0]}/{texts[0]}@8")

    # Other parameters.
    other = fully_shard(nn.Linear(4, 3 + 1), mesh=init_device_mesh("cpu", (2,)))
    if rank == 0:
        topology(model, "project", "run")
    else:
        with pytest.raises(ValueError, match="other parameters"):
            topology(other, "project", "run")

    # The first is alone: it does not wait. The other one is alone: it waits, and then goes on without.
    if rank == 0:
        assert topology(model, "project", "alone").launch is not None
    else:
        _shards.PATIENCE_S = 0.2
        with pytest.raises(TimeoutError, match="on all of them"):
            topology(model, "project", "other")
        _shards.PATIENCE_S = 60.0

    # torchrun's agent keeps its store when it starts the workers again: what the last ones said is not heard.
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    told.append(topology(model, "project", "run").launch)
    stale = json.dumps([_native.new_launch(), "", "layout", time.time() - 3600])
    senders = _shards._digest(["project", "stale", [0, 1]])
    key = f"gradwatch/0/{senders}/1/launch"
    store = dist.distributed_c10d._get_default_store()
    if rank == 0:
        store.set(key, stale)
    dist.barrier()
    if rank == 0:
        # The other one waits meanwhile, with the old text before its eyes.
        time.sleep(0.5)
    told.append(topology(model, "project", "stale").launch)
    assert told[-1] not in stale
    dist.barrier()

    # Nor what was said before the workers' last restart, however new it is.
    os.environ["TORCHELASTIC_RESTART_COUNT"] = "1"
    store.set(key, stale.replace(stale.rpartition(" ")[2], f"{time.time()}]"))
    dist.barrier()
    _launch._numbers.clear()
    told.append(topology(model, "project", "stale").launch)
    return told


def test_shards_open_the_same_launch() -> None:
    first, second = run_ranks(2, sharded)
    assert first == second and None not in first and len(set(first)) == len(first)


def test_a_way_of_cutting_that_is_not_read_is_said() -> None:
    class FullyShardedDataParallel(nn.Module):
        pass

    def of_rank(rank: int) -> None:
        with pytest.raises(Unsupported, match="fully_shard"):
            topology(nn.Sequential(FullyShardedDataParallel(), nn.Linear(2, 2)), "project", "run")

    each_rank(2, of_rank)


def test_a_store_that_fails_costs_replicas_nothing() -> None:
    class Broken:
        def set(self, key: str, text: str) -> None:
            raise RuntimeError("gone")

        check = get = set

    def of_rank(rank: int) -> tuple[bool, str | None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dist.distributed_c10d, "_get_default_store", Broken)
            found = topology(nn.Linear(2, 2), "project", "run")
            return found.sends, found.launch

    [(first, launch), (second, none)] = each_rank(2, of_rank)
    assert (first, second) == (True, False) and launch is not None and none is None


def test_shards_cannot_do_without_a_store() -> None:
    def of_rank(rank: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dist.distributed_c10d, "_get_default_store", lambda: None)
            patch.setattr(Agreement, "publish", lambda *_: (_ for _ in ()).throw(RuntimeError("gone")))
            cut = torch.distributed.tensor.distribute_tensor(
                torch.zeros(4, 2), mesh(rank, dp=2), [torch.distributed.tensor.Shard(0)], src_data_rank=None
            )
            model = nn.Module()
            model.weight = nn.Parameter(cut)
            with pytest.raises(RuntimeError, match="gone"):
                topology(model, "project", "run")

    each_rank(2, of_rank, ranks=[0])


def test_it_is_known_when_this_process_began() -> None:
    began = _launch._process_started_at()
    if began is not None:
        assert 0 < time.time() - began < 24 * 3600
    assert _launch.of_this_launch(0.0)

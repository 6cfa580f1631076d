"""The loader, the map view, Accelerate and process groups: every row is read once, and nothing is split twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.client.conftest import ids, positions
from torch.utils.data import DataLoader, DistributedSampler

from choline_data.client import FirehoseDataset, collate
from choline_data.errors import InvalidOptionError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


@pytest.mark.parametrize(("workers", "others"), [(0, 0), (0, 2), (2, 0), (2, 3)])
def test_a_loaders_state_moves_between_worker_counts(firehose: Any, workers: int, others: int):
    for count in (0, 1, 7, 56):
        loader = firehose(batch_size=8).loader(num_workers=workers)
        got = positions([batch for _, batch in zip(range(count), loader, strict=False)])
        state = json.loads(json.dumps(loader.state_dict()))
        again = firehose(batch_size=8).loader(num_workers=others)
        again.load_state_dict(state)
        assert got + positions(again) == list(range(450))


def test_a_loader_goes_through_passes(firehose: Any):
    loader = firehose().loader(batch_size=8, num_workers=0)
    assert len(loader) == 57
    assert positions(loader) == positions(loader) == list(range(450))
    assert loader.state_dict()["epoch"] == 2


def test_a_loader_reads_from_a_server_with_workers(remote: Any):
    assert positions(remote().loader(batch_size=8, num_workers=2)) == list(range(450))


def test_a_loader_is_no_data_loader(firehose: Any):
    assert not isinstance(firehose(batch_size=4).loader(), DataLoader)


@pytest.mark.parametrize("workers", [0, 2])
def test_accelerate_shares_out_every_row_once(firehose: Any, workers: int):
    from accelerate.data_loader import prepare_data_loader

    seen: list[int] = []
    for rank in (0, 1):
        loader = DataLoader(firehose(max_samples=448), batch_size=8, num_workers=workers, collate_fn=collate)
        options = {
            "num_processes": 2,
            "process_index": rank,
            "dispatch_batches": False,
            "put_on_device": False,
        }
        seen += positions(prepare_data_loader(loader, **options))
    assert sorted(seen) == list(range(448))


def test_accelerate_over_told_ranks_is_refused(firehose: Any):
    from accelerate.data_loader import prepare_data_loader

    loader = DataLoader(firehose(rank=0, world_size=2), batch_size=8, collate_fn=collate)
    with pytest.raises(InvalidOptionError, match="rows would be lost"):
        list(prepare_data_loader(loader, num_processes=2, process_index=0, dispatch_batches=False, put_on_device=False))


def test_accelerate_leaves_the_loader_alone(firehose: Any):
    from accelerate import Accelerator

    loader = firehose(batch_size=8).loader()
    assert Accelerator(cpu=True).prepare(loader) is loader


def test_the_map_view_gives_position_i_as_item_i(firehose: Any, remote: Any):
    expected = list(firehose())
    for make in (firehose, remote):
        view = make().as_map()
        assert len(view) == 450
        assert view[17] == expected[17]
        assert view[-1] == expected[-1]
        assert view.__getitems__([300, 2, 2, 449]) == [expected[i] for i in (300, 2, 2, 449)]
        with pytest.raises(IndexError):
            view[450]
    with pytest.raises(TypeError, match="max_samples"):
        len(firehose(repeat=True).as_map())


def test_the_map_view_works_with_a_distributed_sampler(firehose: Any):
    seen: list[bytes] = []
    for rank in (0, 1):
        view = firehose().as_map()
        sampler = DistributedSampler(view, num_replicas=2, rank=rank)
        seen += ids(DataLoader(view, batch_size=9, sampler=sampler, collate_fn=collate))
    assert sorted(seen) == sorted(ids(firehose()))


def _consumed(total: int, consumed: int, batch: int, rank: int, world: int) -> list[list[int]]:
    """The indexes of a rank as Megatron's pretraining sampler gives them: by what all ranks have consumed so far."""
    step = batch * world
    return [
        list(range(at + rank * batch, at + (rank + 1) * batch)) for at in range(consumed, total - total % step, step)
    ]


def test_the_map_view_works_with_megatrons_consumed_samples(firehose: Any):
    """Saved by 3 ranks of 4 after 5 steps, resumed by 2 ranks of 6."""
    view = firehose().as_map()
    seen: list[bytes] = []
    for consumed, batch, world, steps in ((0, 4, 3, 5), (60, 6, 2, None)):
        taken = [_consumed(len(view), consumed, batch, rank, world)[:steps] for rank in range(world)]
        loaders = [DataLoader(view, batch_sampler=lists, collate_fn=collate) for lists in taken]
        seen += [i for ranks in zip(*loaders, strict=True) for part in ranks for i in part["id"]]
    assert seen == ids(firehose())[:444]  # Megatron drops the last, incomplete step


def _rank(rank: int, world: int, home: str, store: str, out: str) -> None:
    import torch.distributed as dist

    # Accelerate asks these whether there is more than one process; the dataset asks the group first.
    facts = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 29500}
    os.environ.update({name: str(fact) for name, fact in facts.items()})
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    dataset = FirehoseDataset({"web": 5, "code": 3}, home=home, repeat=False, batch_size=8, last_batch="wrap")
    got: list[int] = []
    for batch in DataLoader(
        dataset, batch_size=None, num_workers=rank, multiprocessing_context="spawn" if rank else None
    ):
        total = torch.tensor([len(batch["text"])])
        dist.all_reduce(total)
        assert total.item() == 16
        got += batch["position"].tolist()
    (Path(out) / str(rank)).write_text(json.dumps(got))
    (Path(out) / f"dealt-{rank}").write_text(json.dumps(_dealt(home, workers=0) + _dealt(home, workers=2)))
    dist.destroy_process_group()


def _numbers(samples: list[Any]) -> dict[str, torch.Tensor]:
    """Tensors only: Accelerate sends nothing else from one rank to the others."""
    return {"position": torch.tensor([sample["position"] for sample in samples])}


def _dealt(home: str, workers: int) -> list[int]:
    """Returns what this rank receives if rank 0 reads all samples and sends the others their part."""
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration

    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(dispatch_batches=True))
    assert accelerator.num_processes == 2
    dataset = FirehoseDataset({"web": 5, "code": 3}, home=home, repeat=False, max_samples=384)
    context = "fork" if workers else None  # in a process that was spawned itself, the default is spawn
    loader = DataLoader(
        dataset, batch_size=8, num_workers=workers, collate_fn=_numbers, multiprocessing_context=context
    )
    return [p for batch in accelerator.prepare(loader) for p in batch["position"].tolist()]


@pytest.mark.filterwarnings("ignore")
def test_two_processes_of_a_group_find_their_ranks_and_make_equal_steps(home: Path, tmp_path: Path):
    torch.multiprocessing.spawn(_rank, (2, str(home), str(tmp_path / "store"), str(tmp_path)), nprocs=2)
    got = [json.loads((tmp_path / str(rank)).read_text()) for rank in (0, 1)]
    assert len(got[0]) == len(got[1]) == 200
    assert got[0][:9] == [*range(8), 16]
    assert set(got[0] + got[1]) == set(range(390))
    dealt = [json.loads((tmp_path / f"dealt-{rank}").read_text()) for rank in (0, 1)]
    assert sorted(dealt[0] + dealt[1]) == sorted([*range(384), *range(384)])  # without workers, and with


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_that_persist_follow_a_state_a_ban_and_a_skip(firehose: Any, persistent: bool):
    loader = firehose(batch_size=8, reshuffle=False).loader(num_workers=2, persistent_workers=persistent)
    assert positions(loader) == list(range(450))
    loader.load_state_dict(firehose(batch_size=8).state_dict() | {"position": 400})
    assert positions(loader) == list(range(400, 450))
    loader.skip(50)
    assert positions(loader) == list(range(400, 450))
    first = next(iter(firehose(batch_size=1)))["id"]
    loader.ban(first)
    assert positions(loader) == list(range(1, 450))
    for _ in zip(range(3), loader, strict=False):  # the loop is left
        pass
    assert positions(loader) == list(range(1, 450))


def test_workers_persist_from_one_complete_pass_to_the_next(firehose: Any):
    loader = firehose(batch_size=8).loader(num_workers=2, persistent_workers=True)
    processes = []
    for _ in range(2):
        assert positions(loader) == list(range(450))
        processes.append([worker.pid for worker in loader._loader._iterator._workers])
    assert processes[0] == processes[1]


def test_accelerates_skip_first_batches_is_refused_with_the_call_that_skips(firehose: Any):
    from accelerate import skip_first_batches

    loader = firehose(batch_size=8).loader()
    with pytest.raises(AttributeError, match=r"loader\.skip\(n\)"):
        skip_first_batches(loader, 3)
    loader.skip(3)
    assert positions(loader) == list(range(24, 450))


@pytest.mark.parametrize("call", ["seek", "load_state_dict", "set_epoch"])
def test_a_dataset_that_is_moved_after_its_loader_was_made_is_refused(firehose, call):
    dataset = firehose(batch_size=4, repeat=False)
    loader = dataset.loader(num_workers=0)
    assert next(iter(loader))["position"].tolist() == [0, 1, 2, 3]
    if call == "load_state_dict":
        other = firehose(batch_size=4, repeat=False)
        other.seek(8)
        dataset.load_state_dict(other.state_dict())
    else:
        getattr(dataset, call)(8 if call == "seek" else 1)
    with pytest.raises(InvalidOptionError, match="moved after its loader was made"):
        iter(loader)
    assert next(iter(dataset.loader(num_workers=0)))["position"].tolist() == (
        [0, 1, 2, 3] if call == "set_epoch" else [8, 9, 10, 11]
    )

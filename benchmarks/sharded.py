r"""One scene over two processes against one process, and against the most the machine can give.

Every process has one thread. In one run, in turns: ``one`` computes the whole scene in one process
while the other waits; ``two`` computes it in both, rows exchanged layer by layer; ``apart``
computes half the scene in each, independently, which is as fast as two processes can be here.
Forward passes (evaluated, without gradients, channels last) and training steps (forward and
backward, batch norm over the scene, channels first): images lie in memory as prediction and
training have them. All keep freed memory, as both do on a CPU. Bytes sent are set
against the least possible: every row that another rank needs of a layer, sent once.

    python benchmarks/sharded.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from results import write_result
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes

from wholescene.cli.console import guard
from wholescene.heap import steady_heap
from wholescene.models import Architecture, ClassSpec, ModelSpec, build_segmenter
from wholescene.raster.source import BandSpec, SourceSpec
from wholescene.spatial import Shard, reduce_gradients, run_sharded
from wholescene.spatial.cuts import Cuts
from wholescene.spatial.deal import Deal
from wholescene.spatial.layout import Axis
from wholescene.spatial.shard import _NETWORKS

NETWORKS = {
    "U-Net ResNet-18": ("resnet18", "unet", (1024, 2048)),
    "DeepLabV3+ ResNet-18": ("resnet18", "deeplabv3plus", (1024, 2048)),
    "UPerNet ConvNeXt-T": ("convnext_tiny", "upernet", (768,)),
    "UPerNet Swin-T": ("swin_tiny_patch4_window7_224", "upernet", (672,)),
}
"""Encoder, decoder, and sides of the scenes."""


def build(encoder: str, decoder: str) -> nn.Module:
    """A network with random weights."""
    torch.manual_seed(0)
    spec = ModelSpec(
        architecture=Architecture(
            encoder=encoder,
            decoder=decoder,
            decoder_options={"channels": 128} if decoder != "unet" else {},
        ),
        sources=(SourceSpec(bands=tuple(BandSpec(name=name) for name in "rgb")),),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        classes=tuple(ClassSpec(id=i, name=str(i), color=(i, 0, 0)) for i in range(6)),
    )
    return build_segmenter(spec)


class Ways:
    """The three ways to compute, for one network, on one rank.

    Args:
        module: The network.
        image: The whole scene.
        group: Both ranks.
        trains: Training steps instead of forward passes.
    """

    def __init__(
        self, module: nn.Module, image: Tensor, group: dist.ProcessGroup, *, trains: bool
    ) -> None:
        self.module, self.group, self.trains = module, group, trains
        self.rank = dist.get_rank(group)
        half = image.shape[2] // 2
        self.start = self.rank * half
        order = torch.contiguous_format if trains else torch.channels_last
        self.image = image.contiguous(memory_format=order)
        part = image[:, :, self.start : self.start + half]
        self.half = part.contiguous(memory_format=order)

    def one(self) -> None:
        """The whole scene, in the first process."""
        if self.rank == 0:
            self._step(lambda: self.module(self.image))

    def two(self) -> None:
        """The whole scene, in both."""
        shard = Shard(self.half, self.start, self.image.shape[2], self.group)

        def forward() -> Tensor:
            out = run_sharded(self.module, shard)
            self.wire = out.wire
            return out.local

        self._step(forward)
        if self.trains:
            reduce_gradients(self.module, self.group)

    def apart(self) -> None:
        """Half the scene in each, on its own."""
        self._step(lambda: self.module(self.half))

    def _step(self, forward: Callable[[], Tensor]) -> None:
        if not self.trains:
            with torch.no_grad():
                forward()
            return
        self.module.zero_grad()
        loss = forward().square().mean()
        loss.backward()  # type: ignore[no-untyped-call]

    def seconds(self, way: str) -> float:
        """Time until both are done."""
        dist.barrier(self.group)
        begin = time.perf_counter()
        getattr(self, way)()
        dist.barrier(self.group)
        return time.perf_counter() - begin


def work(rank: int, folder: str, args: argparse.Namespace) -> None:
    """One rank: every network, every way, in turns."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    group = dist.group.WORLD
    assert group is not None
    found = {}
    for name in args.networks:
        encoder, decoder, sides = NETWORKS[name]
        module = build(encoder, decoder)
        for side, trains in product([args.side] if args.side else sides, (False, True)):
            image = torch.randn(1 if decoder == "unet" else 2, 3, side, side)
            module.train(trains)
            ways = Ways(module, image, group, trains=trains)
            row = f"{name}, {side} px, {'training step' if trains else 'forward'}"
            with steady_heap():
                times = measured(ways, args.repeats)
            found[row] = {"scene": list(image.shape), **times}
            if rank == 0:
                print(row, found[row], flush=True)
    if rank == 0:
        (Path(folder) / "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def measured(ways: Ways, repeats: int) -> dict[str, Any]:
    """Median seconds of each way and their ratios."""
    times: dict[str, list[float]] = {way: [] for way in ("one", "two", "apart")}
    for repeat in range(repeats + 1):
        for way, kept in times.items():
            seconds = ways.seconds(way)
            if repeat:  # the first traces, allocates and warms up
                kept.append(seconds)
    middle = {way: statistics.median(kept) for way, kept in times.items()}
    return {
        "seconds": {way: [round(s, 3) for s in kept] for way, kept in times.items()},
        "speedup": round(middle["one"] / middle["two"], 3),
        "ceiling": round(middle["one"] / middle["apart"], 3),
        "share_of_ceiling": round(middle["apart"] / middle["two"], 3),
        **traffic(ways),
    }


def traffic(ways: Ways) -> dict[str, int]:
    """Bytes this rank sends in a pass, and the least that would do."""
    ways.two()
    network = _NETWORKS[ways.module][ways.trains]
    assert network.last is not None
    height = ways.image.shape[2]
    return {
        "bytes_sent": ways.wire.bytes_sent,
        "least_bytes": least_bytes(network.last[1], (0, height // 2, height), ways.rank)
        * (2 if ways.trains else 1),
    }


def least_bytes(dealt: Deal, cuts: Cuts, rank: int) -> int:
    """Bytes of the rows that the other rank needs of each value, each once."""
    wanted: dict[int, set[int]] = {}
    for task in dealt.tasks:
        for argument in task.arguments:
            route = argument.route
            if route is None:
                continue
            for _, (start, stop) in route.overlap(rank, 1 - rank):
                wanted.setdefault(argument.ref, set()).update(range(start, stop))
    total = 0
    for ref, rows in wanted.items():
        value, layout = dealt.staging.graph.values[ref], dealt.staging.stages[ref].layout
        total += len(rows) * value.num_bytes // (layout.grid(Axis.ROW) or 1)
    return total


@guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--side", type=int, help="side of the scene, for a quick look")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="print, but keep no result file")
    args = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        start_processes(work, args=(folder, args), nprocs=2, start_method="spawn")  # type: ignore[no-untyped-call]
        found = json.loads((Path(folder) / "found.json").read_text())
    data = {"threads_per_process": 1, "processes": 2, "backend": "gloo", "networks": found}
    print(json.dumps(data, indent=2))
    if not args.dry:
        name = "sharded" if set(args.networks) == set(NETWORKS) else "sharded-some"
        print(write_result(name, data, seconds=time.monotonic() - start))


if __name__ == "__main__":
    main()

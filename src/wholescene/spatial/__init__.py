"""Exact execution of any network over scenes of any size."""

from wholescene.spatial.checkpoint import Checkpoint
from wholescene.spatial.cuts import equal_cuts
from wholescene.spatial.plan import Plan, plan
from wholescene.spatial.segments import SegmentBytes
from wholescene.spatial.shard import (
    Shard,
    ShardedOutput,
    reduce_gradients,
    run_sharded,
    segment_bytes,
)
from wholescene.spatial.stream import Streamer, stream
from wholescene.spatial.sums import SceneSums

__all__ = [
    "Checkpoint",
    "Plan",
    "SceneSums",
    "SegmentBytes",
    "Shard",
    "ShardedOutput",
    "Streamer",
    "equal_cuts",
    "plan",
    "reduce_gradients",
    "run_sharded",
    "segment_bytes",
    "stream",
]

"""Exact execution of any network over scenes of any size."""

from wholescene.spatial.checkpoint import Checkpoint
from wholescene.spatial.cuts import equal_cuts
from wholescene.spatial.plan import Plan, plan
from wholescene.spatial.shard import Shard, ShardedOutput, reduce_gradients, run_sharded
from wholescene.spatial.stream import Streamer, stream
from wholescene.spatial.sums import SceneSums

__all__ = [
    "Checkpoint",
    "Plan",
    "SceneSums",
    "Shard",
    "ShardedOutput",
    "Streamer",
    "equal_cuts",
    "plan",
    "reduce_gradients",
    "run_sharded",
    "stream",
]

r"""What scene interaction costs beside attention over all tokens of every map, on Swin-L's maps.

    python benchmarks/interaction_cost.py

The published form attends over all tokens at strides 4, 8, 16 and 32; ours over those of strides 16
and 32, and where finer maps are asked for, each token asks keys averaged to stride 16. Operations
are counted: two for every multiplication of a product.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from results import write_result

CHANNELS = {4: 192, 8: 384, 16: 768, 32: 1536}
SIDES = (1024, 2048, 4096, 8192, 12_800)
KEY_STRIDE = 16


def layer_operations(side: int, stride: int, *, key_stride: int) -> int:
    """Operations of one layer: attention, its four linear maps, and two of four times the width.

    Args:
        side: Rows and columns of the scene.
        stride: Of the map.
        key_stride: Keys are averaged to it where it is coarser.
    """
    channels = CHANNELS[stride]
    queries, keys = (side // stride) ** 2, (side // max(stride, key_stride)) ** 2
    attention = 2 * queries * keys * channels
    linear = (2 * queries + 2 * keys + 8 * queries) * channels**2
    return 2 * (attention + linear)


def tera(count: float) -> float:
    return round(count / 1e12, 3)


def table() -> list[dict[str, Any]]:
    """One row per side of a scene."""
    rows = []
    for side in SIDES:
        published = {s: layer_operations(side, s, key_stride=1) for s in CHANNELS}
        pooled = {s: layer_operations(side, s, key_stride=KEY_STRIDE) for s in CHANNELS}
        rows.append(
            {
                "side_px": side,
                "published_tera_by_stride": {s: tera(n) for s, n in published.items()},
                "published_tera": tera(sum(published.values())),
                "ours_tera_by_stride": {s: tera(pooled[s]) for s in (16, 32)},
                "ours_tera": tera(pooled[16] + pooled[32]),
                "ours_all_strides_tera": tera(sum(pooled.values())),
                "ratio": round(sum(published.values()) / (pooled[16] + pooled[32]), 1),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry", action="store_true", help="print, but keep no result file")
    args = parser.parse_args()
    start = time.monotonic()
    data = {"channels": CHANNELS, "key_stride": KEY_STRIDE, "rows": table()}
    print(json.dumps(data, indent=2))
    if not args.dry:
        print(write_result("interaction-cost", data, seconds=time.monotonic() - start))


if __name__ == "__main__":
    main()

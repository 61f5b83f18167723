"""What scripts that prepare real data have in common: the command line and the check at the end."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from wholescene.datasets import load_dataset, verify
from wholescene.errors import WholesceneError

__all__ = ["run"]


def run(
    prepare: Callable[[Path, Path], Path], *, description: str, folder: str, contents: str
) -> int:
    """Prepare, verify, and say what was found.

    Args:
        prepare: Takes source and output folder; gives the dataset description.
        description: First line of the help.
        folder: Name of the source below ``WHOLESCENE_DATA``.
        contents: What the source folder holds, for the help.

    Returns:
        Exit code.
    """
    parser = argparse.ArgumentParser(description=description)
    data = os.environ.get("WHOLESCENE_DATA")
    parser.add_argument(
        "--source",
        type=Path,
        default=Path(data) / folder if data else None,
        required=data is None,
        help=f"folder {contents}; default: {folder} in $WHOLESCENE_DATA",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    try:
        path = prepare(args.source, args.out)
        findings = verify(load_dataset(path))
    except WholesceneError as error:
        print(error, file=sys.stderr)
        return 2
    for finding in findings:
        print(f"{finding.severity}: {finding.scene or 'dataset'}: {finding.what}")
    print(path)
    return int(any(finding.severity == "error" for finding in findings))

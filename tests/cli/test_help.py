import subprocess
import sys
import time

import pytest

from wholescene.cli import app

COMMANDS = ["demo", "info", "train", "predict", "plan", "evaluate", "score", "vectorize", "report"]
GROUPS = [["data", c] for c in ("synthesize", "verify", "stats", "fraction")]
GROUPS += [["models", c] for c in ("list", "show")]


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv=['wholescene','--help']\n"
        "from wholescene.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'rasterio', 'numpy', 'timm', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    best = min(_seconds([sys.executable, "-c", code]) for _ in range(3))
    assert best < 0.5


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


@pytest.mark.parametrize("command", [*[[c] for c in COMMANDS], *GROUPS], ids=" ".join)
def test_every_command_shows_an_example(command: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        app([*command, "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Example: wholescene " + " ".join(command) in text
    assert "--json" in text
    assert "--debug" in text

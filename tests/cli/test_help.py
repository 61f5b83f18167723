import resource
import subprocess
import sys

import pytest

from wholescene.cli import app

COMMANDS = ["demo", "info", "train", "pretrain", "predict", "plan", "evaluate", "score"]
COMMANDS += ["vectorize", "report"]
GROUPS = [["data", c] for c in ("synthesize", "verify", "stats", "fraction")]
GROUPS += [["models", c] for c in ("list", "show")]
GROUPS += [["study", "few-labels"]]


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
    """Processor time, so that a busy machine is no failure."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@pytest.mark.parametrize("command", [*[[c] for c in COMMANDS], *GROUPS], ids=" ".join)
def test_every_command_shows_an_example(command: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        app([*command, "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Example: wholescene " + " ".join(command) in text
    assert "--json" in text
    assert "--debug" in text

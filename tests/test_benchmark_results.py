import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import ValidationError

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
FILES = sorted((BENCHMARKS / "results").glob("*.json"))


def load_results_module() -> ModuleType:
    """Import ``benchmarks/results.py``, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("benchmark_results", BENCHMARKS / "results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic looks annotations up there
    spec.loader.exec_module(module)
    return module


results = load_results_module()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_result_kept_states_how_it_was_measured(file: Path) -> None:
    result = results.Result.model_validate(json.loads(file.read_text(encoding="utf-8")))
    assert file.name == result.file_name
    assert {"python", "torch", "rasterio", "gdal"} <= result.versions.keys()


def test_a_result_is_written_with_all_it_must_state(tmp_path: Path) -> None:
    path = results.write_result("toy-subject", {"answer": 42}, seconds=1.0, folder=tmp_path)
    result = results.Result.model_validate(json.loads(path.read_text(encoding="utf-8")))
    assert path.name == result.file_name
    assert result.data == {"answer": 42}
    assert result.hardware.cores >= 1


@pytest.mark.parametrize("missing", ["commit", "hardware", "versions", "seconds", "data"])
def test_a_result_without_its_circumstances_is_refused(tmp_path: Path, missing: str) -> None:
    path = results.write_result("toy", {"answer": 42}, seconds=1.0, folder=tmp_path)
    content = json.loads(path.read_text(encoding="utf-8"))
    del content[missing]
    with pytest.raises(ValidationError, match=missing):
        results.Result.model_validate(content)

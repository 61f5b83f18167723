from pathlib import Path

import pytest
from bad_inputs import CASES, Case, message, row

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_a_mistake_gets_one_message_that_the_page_lists(case: Case, tmp_path: Path) -> None:
    code, text = message(case, tmp_path)
    assert code == 2
    assert row(case, text) in PAGE.read_text().splitlines()
    assert not list(tmp_path.rglob("map.tif"))

"""JSON in region files with values of other types: the regions are read, or the error has the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.damage import changed_values, check
from helpers.files_of_data import REGION_KINDS


@pytest.mark.parametrize(
    "name", ["vinvl: features.tsv", "vinvl with labels: labels.tsv", "predictions: predictions.tsv"]
)
def test_other_json_values_in_a_line(name: str, tmp_path: Path) -> None:
    kind = REGION_KINDS[name]
    file = kind.make(tmp_path)
    first, *others = file.read_text().splitlines(keepends=True)
    image, text = first.split("\t")
    refused = 0
    for changed in changed_values(json.loads(text)):
        file.write_text(f"{image}\t{json.dumps(changed)}\n{''.join(others)}")
        refused += check(kind, file)
    assert refused > 5

"""A small set of conversations of our own, measured by the benchmark: languages, code, dates, paraphrases."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SET = Path(__file__).with_name("recall_set.json")
ROOT = Path(__file__).parents[2]


def measure(*options: str) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "benchmarks/recall.py"), "--data", str(SET), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("options", [(), ("--facts",)])
def test_what_was_said_is_found(options: tuple[str, ...]) -> None:
    report = measure(*options)
    assert report["facts"] == bool(options)
    assert report["overall"]["recall@5"] >= 0.97
    assert report["overall"]["mrr"] >= 0.94
    assert report["pooled"]["recall@10"] >= 0.97
    assert len(report["per_category"]) >= 8
    for category, figures in report["per_category"].items():
        assert figures["recall@10"] >= 0.9, category


def test_the_report_of_a_bigger_corpus() -> None:
    report = measure("--scale", "3")
    turns = sum(len(talk["turns"]) for talk in json.loads(SET.read_text())["conversations"])
    assert {*report} == {
        "overall", "per_category", "pooled", "query_ms", "index", "scale", "facts", "questions",
    }  # fmt: skip
    assert report["index"]["turns"] == 3 * turns
    assert report["scale"] == 3
    assert 0 < report["query_ms"]["p50"] <= report["query_ms"]["p95"]
    assert {*report["overall"]} == {"recall@5", "recall@10", "recall@20", "mrr"}
    assert report["pooled"]["recall@10"] <= report["overall"]["recall@10"]


def test_data_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text('{"conversations": 3}')
    command = [sys.executable, str(ROOT / "benchmarks/recall.py"), "--data", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")

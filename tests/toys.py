"""Small data that tests share."""

import json
from pathlib import Path

WORDS = (
    "mean",
    "variance",
    "socket",
    "thread",
    "matrix",
    "file",
    "parse",
    "plot",
    "queue",
    "sample",
)


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def text(number: int) -> str:
    return " ".join(WORDS[(number * step + step) % len(WORDS)] for step in (1, 3, 7)) + f" {number}"

"""Load a published data set with `datasets` and compare all its rows with what was written.

Loading is done by this file as a script, in a process of its own: the clients read the address of
the Hub and the places of their caches once, when they are imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import xxhash

BATCH_ROWS = 1_000


def fingerprint(tables: Iterable[Any]) -> tuple[int, str]:
    """Return the number of rows of Arrow tables, and 32 hex digits that name these rows.

    Rows may come in any order; a row that is missing, doubled or changed gives other digits.
    """
    n_rows = total = 0
    for table in tables:
        for batch in table.to_batches(BATCH_ROWS):
            for row in batch.to_pylist():
                text = json.dumps(row, sort_keys=True, ensure_ascii=True, default=repr)
                total += xxhash.xxh3_128_intdigest(text.encode())
                n_rows += 1
    return n_rows, f"{total % 2**128:032x}"


def check_loads(
    repo: str, revision: str, endpoint: str, files: Mapping[str, list[Path]]
) -> dict[str, int]:
    """Load a data set of the Hub and compare its rows with the Parquet files it was made from.

    Args:
        repo: as in owner/name.
        revision: tag, branch or commit.
        endpoint: address of the Hub.
        files: the files that were written, by split.

    Returns:
        Number of rows by split.

    Raises:
        ServiceError: it does not load, or has other rows.
    """
    import pyarrow.parquet as pq

    from lightadapt_data.errors import ServiceError

    found = _loaded(repo, revision, endpoint)
    wanted = {
        name: fingerprint(pq.read_table(path) for path in paths) for name, paths in files.items()
    }
    if found != wanted:
        there = {name: n_rows for name, (n_rows, _) in found.items()}
        written = {name: n_rows for name, (n_rows, _) in wanted.items()}
        what = "other rows" if there == written else f"rows {there}, {written} were written"
        raise ServiceError(
            f"publish: {repo} at {revision} of {endpoint} loads back with {what}; tell nobody "
            "to use it, look at the repository's files and publish again"
        )
    return {name: n_rows for name, (n_rows, _) in wanted.items()}


def _loaded(repo: str, revision: str, endpoint: str) -> dict[str, tuple[int, str]]:
    from lightadapt_data import hub_retries
    from lightadapt_data.errors import ServiceError

    with tempfile.TemporaryDirectory(prefix="lightadapt-loading-") as folder:
        places = ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_XET_CACHE", "HF_ASSETS_CACHE")
        more = {name: str(Path(folder, name.lower())) for name in places}
        more |= {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        # An empty working folder and -P: a folder of the same name here must not be taken for it.
        done = subprocess.run(  # noqa: S603  # our own file
            [sys.executable, "-P", __file__, repo, revision],
            env={**os.environ, **more},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        why = hub_retries.in_short(RuntimeError(last))
        raise ServiceError(
            f"publish: {repo} at {revision} was sent to {endpoint}, but does not load with "
            f"datasets ({why}); run again to try once more, nothing is sent twice"
        )
    return {name: (n_rows, digits) for name, (n_rows, digits) in json.loads(done.stdout).items()}


def main(repo: str, revision: str) -> None:
    """Write {split: [rows, digits]} to stdout."""
    import datasets

    loaded = datasets.load_dataset(repo, revision=revision)
    found = {name: fingerprint([split.data.table]) for name, split in loaded.items()}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

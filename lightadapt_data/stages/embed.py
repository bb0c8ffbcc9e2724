"""embed: rows -> unit vectors, float16 `.npy` per part, and the sum that gives the corpus mean."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from lightadapt_data import methods, rows
from lightadapt_data.config import StageConfig
from lightadapt_data.encoders import Encoder
from lightadapt_data.shards import Counts, Shard, Workspace, read_parquet

logger = logging.getLogger(__name__)

VERSION = 1
READS = ("ingest",)
FAMILIES = {"method": "encoders"}
USES_GPU = True


class Settings(StageConfig):
    """Settings of the embed stage."""

    method: str = "sentence_transformer"
    """Name of a file in lightadapt_data/encoders/."""


def check(settings: Settings, workspace: Workspace) -> None:
    """Make sure that the model is at hand before any work.

    Raises:
        InputError: it cannot be found or fetched.
    """
    module, options = methods.chosen("encoders", settings.method, settings.options)
    if hasattr(module, "fetch"):
        module.fetch(options)


def reads(settings: Settings, workspace: Workspace) -> dict[str, str]:
    """Return what names the encoder's output, found without loading it."""
    module, options = methods.chosen("encoders", settings.method, settings.options)
    found: dict[str, str] = module.fingerprint(options)
    return found


def load(settings: Settings) -> Encoder:
    """Return the encoder of these settings, loaded."""
    module, options = methods.chosen("encoders", settings.method, settings.options)
    encoder: Encoder = module.load(options)
    return encoder


def shards(settings: Settings, workspace: Workspace) -> list[Shard]:
    """Return one shard per part of rows, so that new rows cost only their own part."""
    encoder = reads(settings, workspace)
    made = []
    for role in rows.ROLES:
        for part in rows.parts(workspace, role):
            args = {"role": role, "rows": part.rows.relative_to(workspace.folder).as_posix()}
            made.append(Shard(part.name, {**encoder, "rows": part.digest}, args))
    return made


def run_shard(settings: Settings, workspace: Workspace, shard: Shard, out: Path) -> Counts:
    """Embed one part; equal texts are embedded once."""
    table = read_parquet(workspace.folder / shard.args["rows"], ["text"])
    texts = table["text"].to_pylist()
    places: dict[str, int] = {}
    index = np.array([places.setdefault(text, len(places)) for text in texts], np.int64)
    encoder = load(settings)
    n_cut_before = encoder.n_cut()
    vectors = encoder.encode(list(places))[index].astype(np.float16)
    np.save(out / "vectors.npy", vectors)
    np.save(out / "sum.npy", vectors.astype(np.float64).sum(axis=0))
    return {
        "rows_in": len(texts),
        "rows_out": len(texts),
        "distinct": len(places),
        "cut": encoder.n_cut() - n_cut_before,
    }

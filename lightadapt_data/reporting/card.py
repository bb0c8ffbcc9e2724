"""card: the data card of a published data set, facts only, as Markdown with a YAML header.

Foreign text (names of sources, labels, titles) is escaped, so that it can neither break the page
nor put links or HTML into it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightadapt_data.reporting import augmentation_view, describe, findings
from lightadapt_data.shards import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN_SOURCES = 20
"""Sources with a line of their own; the rest are summed up."""
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
    (1_000_000_000, "100M<n<1B"),
)
MEANINGS = {
    "id": "stable name of the row",
    "text": "the text",
    "label": "the label; empty for an unlabelled row",
    "origin": "seed (given), selected (from the corpus) or augmented (made from a given row)",
    "parent_id": "id of the row that an augmented row was made from",
    "method": "what selected, labelled or made the row; empty for a given row",
    "score": "score of that method, higher is better",
    "split": "train, validation or test",
    "source": "where the text comes from",
    "n_tokens": "words, punctuation marks and CJK characters of the text",
    "spans": "entities in the text: start and end in characters, and label",
    "head": "the first entity of the relation: start and end in characters",
    "tail": "the second entity of the relation: start and end in characters",
    "context": "the text in which answers stand",
    "question": "what is asked of the context",
    "answers": "answers, and where each starts in the context, in characters",
    "target": "the text in the other language, written by a person",
}
CATEGORIES = {
    "text_classification": "text-classification",
    "cloze": "text-classification",
    "relation_extraction": "text-classification",
    "token_classification": "token-classification",
    "question_answering": "question-answering",
    "translation": "translation",
    "language_modeling": "text-generation",
}
"""What the Hub calls the tasks."""


@dataclass(frozen=True)
class Split:
    """The files of one split."""

    rows: int
    bytes_in_memory: int
    bytes_on_disk: int


@dataclass(frozen=True)
class Facts:
    """What the files to publish hold."""

    splits: dict[str, Split]
    sources: Counter[str]
    origins: Counter[str]
    schema: pa.Schema

    @property
    def n_rows(self) -> int:
        """Rows of all splits."""
        return sum(split.rows for split in self.splits.values())


def facts(files: dict[str, list[Path]]) -> Facts:
    """Count the rows of Parquet files, given by split; one file is read at a time."""
    import pyarrow.parquet as pq

    splits = {}
    sources: Counter[str] = Counter()
    origins: Counter[str] = Counter()
    for split, paths in files.items():
        n_rows = n_bytes = 0
        for path in paths:
            metadata = pq.read_metadata(path)
            n_rows += metadata.num_rows
            groups = range(metadata.num_row_groups)
            n_bytes += sum(metadata.row_group(i).total_byte_size for i in groups)
            table = pq.read_table(path, columns=["source", "origin"])
            sources.update(_counted(table["source"]))
            origins.update(_counted(table["origin"]))
        splits[split] = Split(n_rows, n_bytes, sum(path.stat().st_size for path in paths))
    first = next(path for paths in files.values() for path in paths)
    return Facts(splits, sources, origins, pq.read_schema(first).remove_metadata())


def text(workspace: Workspace, found: Facts, title: str, license_id: str, repo: str) -> str:
    """Return the whole card."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # noqa: S701  # HTML rules do not fit Markdown: `finalize` escapes all
        finalize=lambda value: plain(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["own"] = Markup
    environment.filters["n"] = lambda number: f"{number:,}"
    environment.filters["share"] = lambda number: f"{100 * number:.1f} %"
    shown = found.sources.most_common(SHOWN_SOURCES)
    return environment.get_template("publish_card.md.jinja").render(
        header=header(found, title, license_id, _category(workspace)),
        title=title,
        license_id=license_id,
        repo=repo,
        facts=found,
        sources=shown,
        n_other_sources=len(found.sources) - len(shown),
        n_other_rows=found.sources.total() - sum(n for _, n in shown),
        meanings=MEANINGS,
        inputs=describe.inputs(workspace),
        made=_made(workspace),
        results=findings.results(workspace),
        version=describe.versions()["lightadapt-data"],
    )


def _category(workspace: Workspace) -> str | None:
    """Return what the Hub calls the task; None where nothing is trained."""
    train = workspace.settings.get("train")
    return CATEGORIES.get(str(getattr(train, "task", None)))


def header(found: Facts, title: str, license_id: str, category: str | None = None) -> str:
    """Return the YAML header that the Hub and `datasets` read."""
    from datasets import DatasetInfo, Features
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCardData

    files = [{"split": name, "path": f"data/{name}-*.parquet"} for name in found.splits]
    data = DatasetCardData(
        pretty_name=title,
        license=license_id,
        size_categories=size_category(found.n_rows),
        task_categories=[category] if category else None,
        tags=["lightadapt-data"],
    )
    info = DatasetInfo(
        features=Features.from_arrow_schema(found.schema),
        splits={
            name: {"name": name, "num_bytes": split.bytes_in_memory, "num_examples": split.rows}
            for name, split in found.splits.items()
        },
        download_size=sum(split.bytes_on_disk for split in found.splits.values()),
        dataset_size=sum(split.bytes_in_memory for split in found.splits.values()),
    )
    MetadataConfigs({"default": {"data_files": files}}).to_dataset_card_data(data)
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    return str(data.to_yaml())


def size_category(n_rows: int) -> str:
    """Return the Hub's name for a number of rows."""
    return next(
        (name for most, name in SIZES if n_rows < most), "n>1T" if n_rows >= 1e12 else "n>1B"
    )


def plain(words: str) -> str:
    """Return text as one line of Markdown that shows exactly that text."""
    flat = re.sub(r"\s+", " ", words)
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    flat = re.sub(r"([\\`*\[\]|~#!$])", r"\\\1", flat)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", flat)


def _counted(column: Any) -> dict[str, int]:
    counts = column.value_counts().to_pylist()
    return {str(one["values"] or "unknown"): one["counts"] for one in counts}


def _made(workspace: Workspace) -> dict[str, Any]:
    """Return how the rows came to be: settings and counts of the stages that the run has."""
    made: dict[str, Any] = {"acceptance": augmentation_view.acceptance(workspace)}
    for stage in ("embed", "select", "curate", "train"):
        settings: Any = workspace.settings.get(stage)
        made[stage] = None
        if settings is not None:
            counts = describe.stage_counts(workspace, stage)
            fields = describe.without_paths(settings.model_dump(mode="json"))
            made[stage] = {**fields, "counts": counts}
    gates = getattr(workspace.settings.get("augment"), "gates", ())
    ingested = describe.stage_counts(workspace, "ingest")
    made |= {"gates": list(gates), "ingest": ingested, "seed": workspace.seed}
    result = workspace.result("select") if workspace.has("select") else None
    if result is not None:
        made["cut"] = json.loads(result.file("summary.json").read_text("utf-8"))["cut"]
    return made

"""select: score every corpus row against the target, keep what fits a budget, explain all.

Scores are made once per target (shards); a new budget, quota, temperature or diversity method
only chooses anew from them.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from lightadapt_data import methods, quotas, rows, score_table, selected_rows, selection_facts
from lightadapt_data.budget import Budget, ranking, take
from lightadapt_data.choosing import Choice, Rules, choose
from lightadapt_data.config import StageConfig
from lightadapt_data.corpus import Corpus, content, read_target, rows_at
from lightadapt_data.diversity import Order
from lightadapt_data.errors import InputError, NothingSelectedError, RecipeError
from lightadapt_data.selectors import Floats, Scores, Target
from lightadapt_data.shards import Counts, Shard, Workspace, digest_of
from lightadapt_data.shards import deliver as deliver_files

logger = logging.getLogger(__name__)

VERSION = 2
READS = ("ingest", "embed")
FAMILIES = {"method": "selectors", "baseline": "selectors", "diversity": "diversity"}
RUN_ONLY = (
    "keep",
    "baseline",
    "baseline_tokens",
    "temperature",
    "quotas",
    "unlike_weight",
    "diversity",
    "diversity_pool",
)
USES_ALL_CORES = True
DRAW_STEP = 1_000_003
"""Between the seeds of two draws, so that seeds near each other do not meet."""


class Settings(StageConfig):
    """Settings of the select stage."""

    method: str = "classifier"
    """Name of a file in lightadapt_data/selectors/."""
    keep: str = "10%"
    """Budget: rows (5000, 20k), tokens (2Mtok), a share of the corpus (10%), or a score (>=0.3)."""
    shares: dict[str, float] = Field(default_factory=dict)
    """Several targets: share of the budget by target file (the source of its rows) [parts]."""
    unlike_weight: float = Field(default=1.0, ge=0)
    """How much closeness to the rows of ingest.unlike counts against a row [ratio]."""
    quotas: dict[str, dict[str, float]] = Field(default_factory=dict)
    """By column, the most that a value may take of the budget, "*" for every other value; the
    column "target" stands for the file of the nearest target row [fraction]."""
    temperature: float = Field(default=0.0, ge=0)
    """0 keeps the best; above, rows are sampled by score + temperature * Gumbel noise [score]."""
    draw: int = Field(default=0, ge=0)
    """Number of the draw: another one gives random methods and noise another sample."""
    diversity: str = ""
    """Name of a file in lightadapt_data/diversity/ that reorders the best rows; empty for none."""
    diversity_pool: float = Field(default=3.0, ge=1)
    """Best rows that diversity works on, as a multiple of what the budget keeps [ratio]."""
    baseline: str = ""
    """Selector whose rows are kept beside the selection for the comparison; empty for none."""
    baseline_tokens: float = Field(default=4.0, gt=0)
    """Tokens of the baseline over tokens of the selection; more, as labelling refuses some."""

    @field_validator("keep", mode="before")
    @classmethod
    def _readable(cls, value: object) -> str:
        try:
            Budget.parse(str(value))
        except RecipeError as error:
            raise ValueError(str(error)) from None
        return str(value)

    @model_validator(mode="after")
    def _possible(self) -> Settings:
        if any(share <= 0 for share in self.shares.values()):
            raise ValueError(f"shares = {self.shares}: every share must be above 0")
        if self.shares and self.keep.lstrip().startswith(">="):
            raise ValueError("a score threshold has no shares; give keep in rows, tokens or %")
        wrong = [n for quota in self.quotas.values() for n in quota.values() if not 0 <= n <= 1]
        if wrong:
            raise ValueError(f"quotas: {wrong[0]} is not allowed; a share of the budget, 0 to 1")
        return self


def check(settings: Settings, workspace: Workspace) -> None:
    """Make sure that the files of a selector that works with a model are at hand.

    Raises:
        InputError: they are not.
    """
    _outside(settings)


def _outside(settings: Settings) -> dict[str, str]:
    """Return the digests of the files that the selector reads besides the run's own."""
    module, options = methods.chosen("selectors", settings.method, settings.options)
    found: dict[str, str] = module.reads(options) if hasattr(module, "reads") else {}
    return found


def shards(settings: Settings, workspace: Workspace) -> list[Shard]:
    """Return one shard per target: its table of scores, which a new budget does not change."""
    reads = {
        "corpus": digest_of(content(workspace, "corpus")),
        "seed": str(_seed(settings, workspace)),
        **_outside(settings),
    }
    target = {**reads, "target": digest_of(content(workspace, "target"))}
    names = list(settings.shares) or [score_table.ALL]
    made = [Shard(f"scores/{name}", {**target, "name": name}, {"target": name}) for name in names]
    if rows.parts(workspace, "unlike"):
        unlike = {**reads, "target": digest_of(content(workspace, "unlike")), "name": "unlike"}
        made.append(Shard("unlike", unlike, {"target": None}))
    return made


def run_shard(settings: Settings, workspace: Workspace, shard: Shard, out: Path) -> Counts:
    """Score every row of the corpus toward one target, or toward the rows to avoid."""
    corpus = Corpus(workspace)
    name = shard.args["target"]
    if name is None:
        target = read_target(workspace, "unlike")
    else:
        members = score_table.members(workspace, name)
        target = score_table.part(read_target(workspace), members)
    scores = score(settings, workspace, corpus, settings.method, target)
    np.save(out / "scores.npy", scores.score)
    np.save(out / "nearest.npy", scores.nearest)
    (out / "facts.json").write_text(json.dumps(dict(scores.facts), indent=1), "utf-8")
    return {"rows_in": corpus.n_rows, "rows_out": corpus.n_rows}


def score(
    settings: Settings, workspace: Workspace, corpus: Corpus, method: str, target: Target
) -> Scores:
    """Return the scores of one selector, checked to be finite and one per row."""
    module, options = methods.chosen("selectors", method, settings.options)
    scores: Scores = module.score(corpus, target, options, _seed(settings, workspace))
    if scores.score.shape != (corpus.n_rows,) or not np.isfinite(scores.score).all():
        raise InputError(
            f"selector {method}: gave scores that are not one finite number per row "
            f"(shape {scores.score.shape} for {corpus.n_rows} rows); look at its options"
        )
    return scores


def _seed(settings: Settings, workspace: Workspace) -> int:
    return workspace.seed + DRAW_STEP * settings.draw


def run(settings: Settings, workspace: Workspace, out: Path) -> Counts:
    """Choose rows by the budget; write the selection, the baseline, the ledger and the cut."""
    corpus = Corpus(workspace)
    table = score_table.read(workspace, settings.unlike_weight)
    parts = sum(settings.shares.values())
    shares = {name: settings.shares.get(name, 1.0) / (parts or 1.0) for name in table.scores}
    rules = _rules(settings, workspace, corpus, table)
    choice = choose(table.scores, shares, corpus.keys, corpus.tokens, rules)
    scores, nearest = table.of(choice.target)
    if choice.n_kept == 0:
        best = int(scores.argmax())
        raise NothingSelectedError(
            f"select.keep = {settings.keep!r} keeps none of {corpus.n_rows:,} rows (the best has "
            f"{int(corpus.tokens[best]):,} tokens and the score {scores[best]:.4f}); raise the "
            "budget"
        )
    np.save(out / "scores.npy", scores)
    np.save(out / "nearest.npy", nearest)
    target = read_target(workspace) if rows.parts(workspace, "target") else None
    summary = selection_facts.summary(settings.keep, corpus, target, table, choice)
    decision = _decision(settings, workspace, choice, scores, nearest, summary["cut"])
    selected_rows.write(decision, corpus.parts, out)
    if settings.baseline:
        _write_baseline(settings, workspace, out, corpus, summary["tokens"])
    (out / "summary.json").write_text(json.dumps(summary, indent=1), "utf-8")
    if summary["short"]:
        logger.warning(
            "select: asked for %s, kept %s rows (%s tokens): %s no more",
            settings.keep,
            f"{choice.n_kept:,}",
            f"{summary['tokens']:,}",
            "the quotas leave" if settings.quotas else "the corpus has",
        )
    return {"rows_in": corpus.n_rows, "rows_out": choice.n_kept, "tokens": summary["tokens"]}


def _decision(
    settings: Settings,
    workspace: Workspace,
    choice: Choice,
    scores: Floats,
    nearest: NDArray[np.int32],
    cut: float,
) -> selected_rows.Decision:
    """Return what the ledger says, with the ids of the rows that reasons point to."""
    import pyarrow as pa

    is_score_all = not (
        settings.quotas or settings.diversity or settings.temperature or settings.shares
    )
    like = np.unique(choice.like[choice.like >= 0]).tolist()
    ids = rows_at(workspace, like, ("id",))
    target_ids = [row["id"] for row in rows.read_role(workspace, "target")]
    return selected_rows.Decision(
        settings.method,
        choice,
        choice.rank,
        scores,
        nearest,
        pa.array(target_ids, pa.string()),
        selected_rows.reasons(
            settings.keep, choice, cut if is_score_all else None, settings.diversity
        ),
        {place: row["id"] for place, row in zip(like, ids, strict=True)},
    )


def _rules(
    settings: Settings, workspace: Workspace, corpus: Corpus, table: score_table.ScoreTable
) -> Rules:
    """Return the rules of choosing that the settings give for this corpus."""
    budget = Budget.parse(settings.keep)
    diversity = None
    if settings.diversity:
        module, options = methods.chosen("diversity", settings.diversity, settings.options)

        def reorder(places: NDArray[np.int64], scores: Floats, n_wanted: int) -> Order:
            found: Order = module.order(corpus.vectors_at(places), scores, n_wanted, options)
            return found

        diversity = reorder
    size = budget.amount * corpus.n_rows if budget.unit == "fraction" else budget.amount
    if budget.unit == "threshold":
        size = float(sum((scores >= budget.amount).sum() for scores in table.scores.values()))
    caps = quotas.caps(settings.quotas, size, workspace, corpus, table)
    return Rules(
        budget,
        _seed(settings, workspace),
        settings.temperature,
        caps,
        diversity,
        settings.diversity_pool,
    )


def deliver(workspace: Workspace) -> None:
    """Put the selection and the ledger at the top of the run's folder, unless curate will."""
    result = workspace.result("select")
    if result is None or workspace.has("curate"):
        return
    files = sorted(result.folder.glob("*.parquet"))
    deliver_files(
        {
            "data": [path for path in files if path.name.startswith("selected-")],
            "ledger": [path for path in files if path.name.startswith("ledger-")],
        },
        workspace.folder,
    )


def _write_baseline(
    settings: Settings, workspace: Workspace, out: Path, corpus: Corpus, n_tokens: int
) -> None:
    """Write the baseline's rows in its own order, `baseline_tokens` times as many tokens."""
    target = read_target(workspace)
    scores = score(settings, workspace, corpus, settings.baseline, target).score
    order = ranking(scores, corpus.keys)
    budget = Budget(n_tokens * settings.baseline_tokens, "tokens")
    chosen = order[: take(order, corpus.tokens, budget)]
    selected_rows.write_in_order(
        chosen, scores, settings.baseline, corpus.parts, out / "baseline.parquet"
    )

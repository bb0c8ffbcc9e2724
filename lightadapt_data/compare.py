"""compare: does selection pay? Selectors beside random ones, at equal tokens, over several draws.

The data's way: ingest, embed and select of the recipe in its own folder -> the tokens that this
selection takes are everybody's budget -> one folder per selector, `compare/<selector>/`, whose
ingest and embed are links to those of the run -> every draw changes the recipe of that folder, so
that content keys decide what is left to do -> `compare/results.json`.

Training is judged on the validation rows only: the test rows are for the report of a run, and a
choice of selectors by them would use them up.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightadapt_data import compare_draw, compare_results, methods, recipe, run, shards, stages
from lightadapt_data.compare_draw import SHARED, result_of
from lightadapt_data.errors import InputError, RecipeError
from lightadapt_data.reporting import findings
from lightadapt_data.shards import Workspace

logger = logging.getLogger(__name__)

BASELINES = ("balanced_random", "random")
"""What selection has to beat; the first one is the harder on most corpora."""
PLAIN: Mapping[str, Any] = {
    "shares": {},
    "quotas": {},
    "temperature": 0.0,
    "diversity": "",
}
"""Settings of select for the baselines: they are random rows, and nothing steers them."""


@dataclass(frozen=True)
class Question:
    """What is to be compared."""

    selectors: tuple[str, ...]
    """Those to judge, without the baselines."""
    draws: int = 3
    pools: tuple[int, ...] = (1,)
    """Sizes of the piles as parts of the last one, which is the whole corpus."""

    @property
    def compared(self) -> tuple[str, ...]:
        """All selectors that are run."""
        return (*self.selectors, *BASELINES)


@dataclass(frozen=True)
class Pile:
    """A corpus that selectors are compared on: the whole one, or a sample of it."""

    size: int
    """As in `Question.pools`."""
    base: Path
    """Folder that holds its ingest and embed."""
    home: Path
    """Folder that holds the folders of its selectors."""
    what: recipe.Recipe


def question(what: recipe.Recipe, selectors: str, draws: int, pools: str) -> Question:
    """Return what is asked, checked.

    Args:
        what: the recipe, with a select table.
        selectors: names with commas between, or "" for the recipe's own method.
        draws: draws of each selector, 2 or more.
        pools: sizes with commas between, ascending, or "" for the whole corpus only.

    Raises:
        RecipeError: unknown selector, only random ones, too few draws, or pools in another form.
    """
    own: Any = what.settings["select"]
    names = [name.strip() for name in selectors.split(",") if name.strip()] or [own.method]
    for name in names:
        methods.load("selectors", name)
    chosen = tuple(dict.fromkeys(name for name in names if name not in BASELINES))
    if not chosen:
        raise RecipeError(
            f"--selectors {', '.join(names)}: random selectors are what the others are compared "
            "with; name one more, as in --selectors nearest"
        )
    if draws < 2:
        raise RecipeError(
            f"--draws {draws}: allowed: a whole number from 2 (3 or more is better); one draw "
            "says nothing of the spread"
        )
    asked = Question(chosen, draws, _sizes(pools))
    for name in asked.compared:  # their options too
        methods.chosen("selectors", name, own.options)
    return asked


def _sizes(text: str) -> tuple[int, ...]:
    if not text.strip():
        return (1,)
    message = (
        f"--pools {text}: allowed: two or more whole numbers from 1, ascending, with commas "
        "between, as in 1,5,25; the last one stands for the whole corpus"
    )
    try:
        sizes = tuple(int(word) for word in text.split(","))
    except ValueError:
        raise RecipeError(message) from None
    if len(sizes) < 2 or sizes[0] < 1 or list(sizes) != sorted(set(sizes)):
        raise RecipeError(message)
    return sizes


def compare(
    what: recipe.Recipe,
    folder: Path,
    asked: Question,
    workers: int = 1,
    on_shard: run.OnShard | None = None,
) -> dict[str, Any]:
    """Run the comparison in the run's folder, write `compare/results.json`, and return it.

    What is finished already is not done again. The keys are those of `compare_results.results`,
    after `tokens`, the budget, and `of`, see `findings.compared_with`.

    Args:
        what: the recipe, with a select table.
        folder: the run's folder.
        asked: from `question`.
        workers: processes that work shards off.
        on_shard: as in `run.run_stages`; the draws count as shards of a stage "compare".

    Raises:
        HeldError: another live run holds the folder.
        InputError: there is no target, or the budget is as large as a pile.
        LightadaptError: as the stages raise it; finished shards stay.
    """
    ingest: Any = what.settings["ingest"]
    if not ingest.target:
        raise InputError("compare: no target to compare selections by; name one with ingest.target")
    for name in asked.compared:
        run.check_inputs(_sub_recipe(what, name, 0, 1).workspace(folder))
    with run.begin(what, folder) as space:
        for stage in (*SHARED, "select"):
            run.run_stage(space, stage, workers, on_shard)
        budget = result_of(space, "select").counts["tokens"]
        piles = [_pile(what, folder, size, asked.pools[-1]) for size in asked.pools]
        for pile in piles:
            _prepare(pile, budget, workers)
        found = list(_draws(piles, asked, folder, budget, workers, on_shard))
        results = {
            "tokens": budget,
            **findings.compared_with(space),
            **compare_results.results(asked.selectors, BASELINES, found),
        }
        path = folder / findings.COMPARISON
        shards.write_text(path, json.dumps(results, indent=1, ensure_ascii=False))
        if space.result("report") is not None:
            stages.load("report").deliver(space)
    return results


def _pile(what: recipe.Recipe, folder: Path, size: int, largest: int) -> Pile:
    home = folder / "compare"
    if size == largest:
        return Pile(size, folder, home, what)
    home = home / f"pool-x{size}"
    ingest: Any = what.settings["ingest"]
    smaller = ingest.model_copy(update={"sample": ingest.sample * size / largest})
    return Pile(size, home, home, replace(what, settings={**what.settings, "ingest": smaller}))


def _prepare(pile: Pile, budget: int, workers: int) -> None:
    """Read and embed a pile, after checking that the budget leaves something to choose."""
    space = pile.what.workspace(pile.base)
    if pile.base != pile.home:  # the whole corpus: held and ready
        _check_room(pile, space, budget)
        return
    with run.hold(pile.base):
        compare_draw.save(recipe.only(pile.what, SHARED), pile.base)
        run.run_stage(space, "ingest", workers)
        _check_room(pile, space, budget)
        run.run_stage(space, "embed", workers)


def _check_room(pile: Pile, space: Workspace, budget: int) -> None:
    """Check that a pile is larger than the budget.

    Raises:
        InputError: it is not.
    """
    n_tokens = result_of(space, "ingest").counts["tokens"]
    name = f"pool {pile.size}" if pile.base == pile.home else "corpus"
    if n_tokens <= budget:
        raise InputError(
            f"compare: the budget of {budget:,} tokens is all of the {name} ({n_tokens:,} tokens), "
            "so that every selector would keep the same rows; lower select.keep"
            + (", or drop the smallest of --pools" if pile.base == pile.home else "")
        )
    if n_tokens < 2 * budget:
        logger.warning(
            "compare: the budget of %s tokens is more than half of the %s; selectors cannot "
            "differ much there",
            f"{budget:,}",
            name,
        )


def _draws(
    piles: Sequence[Pile],
    asked: Question,
    folder: Path,
    budget: int,
    workers: int,
    on_shard: run.OnShard | None,
) -> Iterator[compare_results.PileDraws]:
    """Yield the draws of all selectors, pile by pile."""
    lenders = [folder, *(pile.home / name for pile in piles for name in asked.compared)]
    n_all = len(piles) * len(asked.compared) * asked.draws
    n_done = n_rows = 0
    for pile in piles:
        space = pile.what.workspace(pile.base)
        counts = compare_draw.ngram_counts(space, pile.home / "ngrams")
        found: dict[str, list[dict[str, Any]]] = {}
        for name in asked.compared:
            for draw in range(asked.draws):
                where = f"pool {pile.size}, " if len(piles) > 1 else ""
                logger.info("compare: %s%s, draw %d of %d", where, name, draw + 1, asked.draws)
                what = _sub_recipe(pile.what, name, draw, budget)
                facts = compare_draw.draw(
                    what, pile.base, pile.home / name, lenders, counts, workers
                )
                found.setdefault(name, []).append({"draw": draw, **facts})
                n_done, n_rows = n_done + 1, n_rows + facts["rows"]
                if on_shard is not None:
                    on_shard("compare", n_done, n_all, n_rows)
        corpus = result_of(space, "ingest").counts
        yield compare_results.PileDraws(pile.size, corpus["corpus"], corpus["tokens"], found)


def _sub_recipe(what: recipe.Recipe, name: str, draw: int, budget: int) -> recipe.Recipe:
    """Return the recipe of one draw of one selector; of the stages only those that it is judged by.

    Labelling without curation leaves no data set, so both are run or none.
    """
    more = ("augment", "curate", "train") if "curate" in what.settings else ()
    settings = {
        stage: found
        for stage, found in what.settings.items()
        if stage in (*SHARED, "select", *more)
    }
    changes: dict[str, Any] = {"method": name, "keep": f"{budget}tok", "draw": draw, "baseline": ""}
    if name in BASELINES:
        changes |= PLAIN
        if getattr(settings["ingest"], "unlike", ()):
            changes["unlike_weight"] = 0.0
    settings["select"] = settings["select"].model_copy(update=changes)
    if "train" in settings:
        once = {"first_seed": draw, "seeds": 1, "arms": ("adapted",)}
        settings["train"] = settings["train"].model_copy(update=once)
    return replace(what, settings=settings)

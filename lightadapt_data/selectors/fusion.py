"""fusion: several selectors vote by rank; a row that many of them place high comes first.

Scores of different methods cannot be added, ranks can: a row's score is the sum of 1 / (k + rank)
over the methods. A robust choice when nobody knows which method suits a target.

Cost: that of all its methods; memory: about 40 bytes per corpus row on top of theirs.

Source: Cormack et al. 2009, "Reciprocal rank fusion outperforms Condorcet and individual rank
learning methods", https://doi.org/10.1145/1571941.1572114
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field, model_validator

from lightadapt_data import methods
from lightadapt_data.budget import ranking
from lightadapt_data.config import Config
from lightadapt_data.errors import RecipeError, allowed
from lightadapt_data.selectors import Corpus, Scores, Target

NO_VOTE = frozenset({"balanced_random", "fusion", "random"})
"""Selectors whose ranks say nothing of a row, and this one."""


class Settings(Config):
    """Settings of the fusion selector."""

    methods: tuple[str, ...] = Field(default=("nearest", "centroid"), min_length=1)
    """Names of the selectors that vote; the first that names a nearest target row gives it."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of these selectors by their names."""
    k: int = Field(default=60, ge=0)
    """Rank at which a vote has fallen to about half of the best one [ranks]."""

    @model_validator(mode="after")
    def _usable(self) -> Settings:
        """Check the methods and their settings.

        Raises:
            RecipeError: unknown, repeated or random method, fusion itself, or a wrong setting.
        """
        known = sorted(set(methods.names("selectors")) - NO_VOTE)
        for place, name in enumerate(self.methods):
            if name not in known:
                raise RecipeError(f"fusion.methods: '{name}' cannot vote; {allowed(name, known)}")
            if name in self.methods[:place]:
                raise RecipeError(f"fusion.methods: '{name}' is named twice; name it once")
            methods.settings("selectors", name, self.options.get(name, {}))
        for name in self.options:
            if name not in self.methods:
                raise RecipeError(
                    f"fusion.options: '{name}' does not vote; {allowed(name, self.methods)}, or "
                    "add it to fusion.methods"
                )
        return self

    def key_fields(self) -> dict[str, Any]:
        """Return the voters with their versions and all their settings, and k, as JSON values."""
        voters = {}
        for name in self.methods:
            module, settings = methods.chosen("selectors", name, self.options)
            voters[name] = {"version": getattr(module, "VERSION", 1), **settings.key_fields()}
        return {"methods": list(self.methods), "voters": voters, "k": self.k}


def score(corpus: Corpus, target: Target, settings: Settings, seed: int) -> Scores:
    """Return the sum of 1 / (k + rank) over the methods, ranks from 1, and the nearest target row.

    Facts: those of each method under its name.
    """
    votes = np.zeros(corpus.n_rows)
    nearest = np.full(corpus.n_rows, -1, np.int32)
    facts: dict[str, Any] = {}
    for name in settings.methods:
        module, options = methods.chosen("selectors", name, settings.options)
        found: Scores = module.score(corpus, target, options, seed)
        order = ranking(found.score, corpus.keys)
        votes[order] += 1 / (settings.k + np.arange(1, corpus.n_rows + 1))
        if (nearest < 0).all():
            nearest = found.nearest
        facts[name] = dict(found.facts)
    return Scores(votes.astype(np.float32), nearest, facts)

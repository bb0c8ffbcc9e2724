"""Cards on the Hub: what people wrote themselves is kept, and the adapter's own card."""

from __future__ import annotations

import json
import re

OURS = "Made with lightadapt-data"
"""Every card of ours has these words."""
YOURS, END_YOURS = "<!-- yours -->", "<!-- /yours -->"
OWN_SECTION = f"""
## In your own words

What you write below, between the two marks `yours` and `/yours` that only the source of this page
shows, stays when the repository is published again. All else is written anew.

{YOURS}
{END_YOURS}
"""
"""End of every card: where people's text goes."""
_BLOCK = re.compile(r"<!--\s*yours\s*-->(.*?)(?:<!--\s*/?yours\s*-->|\Z)", re.DOTALL)
_HEADER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def own_text(card: str) -> str:
    """Return what people wrote into a card.

    That is all between the marks; in a card that is not ours, everything below the header. A mark
    that is never closed reaches to the end.
    """
    card = card.replace("\r\n", "\n")
    blocks = [block.strip() for block in _BLOCK.findall(card)]
    if not blocks and OURS not in card:
        blocks = [_HEADER.sub("", card).strip()]
    return "\n\n".join(block for block in blocks if block)


def with_own_text(card: str, old: str) -> str:
    """Return a new card with the text that people wrote into the old one."""
    text = own_text(old)
    if not text:
        return card
    head = _BLOCK.sub("", card).rstrip()
    return f"{head}\n\n{YOURS}\n{text}\n{END_YOURS}\n"


def adapter_card(repo: str, base_model: str, data_repo: str, headline: str) -> str:
    """Return the card of an adapter's repository.

    Args:
        repo: the adapter's repository, as in owner/name.
        base_model: the Hub's id of the base model; empty if it is none.
        data_repo: the data set that it was trained on, as in owner/name.
        headline: what training came to, in one sentence.
    """
    fields = {
        "library_name": "peft",
        "base_model": base_model,
        "datasets": [data_repo],
        "tags": ["lightadapt-data"],
    }
    # JSON is YAML, and quotes whatever needs it.
    header = "".join(f"{name}: {json.dumps(value)}\n" for name, value in fields.items() if value)
    return f"""---
{header}---

# {repo.split("/")[-1]}

{OURS}, on the data set {data_repo}; the card of that set says where every row comes from.

{headline}

## Load it

```python
from pathlib import Path
from huggingface_hub import snapshot_download
from lightadapt_data.trained import load_trained

trained = load_trained(Path(snapshot_download("{repo}")))
```
{OWN_SECTION}"""

"""Translators. The family's contract:

`translate(texts, source, target, settings, n, seed) -> list[list[str]]`: at most `n` candidates
for each text, best first; an empty list where the engine has no usable answer. `source` and
`target` are language codes ("en", "pt"). `fingerprint(source, target, settings) -> str` names the
model, without loading it.
"""

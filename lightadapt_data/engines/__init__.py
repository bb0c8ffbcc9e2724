"""Engines work shards off.

An engine is a function `map_shards(do, shards, workers)` that yields (shard, counts) in any order;
what is already done is not its business.
"""

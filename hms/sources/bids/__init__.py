"""BIDS data sets: names and tables, recordings as their tables describe them, the data set."""

from __future__ import annotations

from hms.sources.bids.source import Bids, BidsSource, open_bids

__all__ = ["Bids", "BidsSource", "open_bids"]

"""Text as `reports.text` shows it, remembered: a study says the same names and sentences thousands of times."""

from __future__ import annotations

from functools import lru_cache

from reports import text


def shown(words: object) -> str:
    """Scrubbed, and without what a browser or terminal would obey."""
    return _shown(str(words))


@lru_cache(maxsize=20_000)
def _shown(words: str) -> str:
    return text.shown(words)

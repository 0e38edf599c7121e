"""The documents of one submission as they came, by the ids of their entries."""

from __future__ import annotations

from collections.abc import Iterable

from lxml import etree

from relais.cda import parsing


class Documents:
    """Bytes and trees; each is parsed once, and nobody changes its tree."""

    def __init__(self, documents: Iterable[tuple[str, bytes]]) -> None:
        self._bytes = dict(documents)
        self._trees: dict[str, etree._ElementTree] = {}

    def __getitem__(self, entry_id: str) -> bytes:
        """The document of an entry."""
        return self._bytes[entry_id]

    def tree(self, entry_id: str) -> etree._ElementTree:
        """The same as XML. Raises UnreadableError."""
        if entry_id not in self._trees:
            self._trees[entry_id] = parsing.parse(self._bytes[entry_id])
        return self._trees[entry_id]

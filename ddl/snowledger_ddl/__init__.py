"""The warehouse contract as SQL, and the small runner that applies it.

One folder per dialect holds numbered files, one object each. Every file leaves its own hash in the comment
on its object, so the database itself tells which objects are up to date: ``apply`` runs the files of the
others, in one transaction, and writes nothing when there are none.

The contract (DuckDB: schema ``activities``):

- ``raw_events``, append-only landing table: the only place where events are inserted;
- ``_ingest_ids``, which events are loaded already;
- ``events``, the ActivitySchema v2.0 stream. ``activity_occurrence`` and ``activity_repeated_at`` follow
  the spec's implementation notes and are computed when read, so events that arrive late are counted right;
- ``insight_atoms``, the well-formed and the quarantined insights among the events.

The package imports no driver; it takes any connection that has ``execute``.
"""

from __future__ import annotations

from ._errors import DdlError
from ._runner import Connection, Rows, apply, pending
from ._statements import DIALECTS, Statement, statements

__all__ = ["DIALECTS", "Connection", "DdlError", "Rows", "Statement", "apply", "pending", "statements"]

"""The receipt of a batch, as the event ``cdesk.batch_loaded`` that is written in the load's own transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from snowledger_queue import OPERATIONAL_CUSTOMER, Event, Origin, derived_id, new_event

from ._warehouse import Batch, Receipt

if TYPE_CHECKING:
    from collections.abc import Mapping


def receipt_id(batch_id: str) -> str:
    """The receipt's activity_id: the same batch always has the same, so it can be there only once."""
    return derived_id("batch", batch_id)


def receipt_event(batch: Batch, inserted: int, loaded_at: str, origin: Origin) -> Event:
    """The event to write with the batch."""
    return new_event(
        origin,
        activity="cdesk.batch_loaded",
        customer=OPERATIONAL_CUSTOMER,
        feature_json={
            "batch_id": batch.batch_id,
            "files": len(batch.files),
            "bytes": batch.size,
            "events": batch.events,
            "inserted": inserted,
            "duplicates": batch.events - inserted,
        },
        activity_id=receipt_id(batch.batch_id),
        ts=loaded_at,
    )


def read_receipt(payload: str) -> Receipt:
    """A receipt from its event's line. Raises ``KeyError`` for any other event."""
    event: Mapping[str, object] = orjson.loads(payload)
    features = event["feature_json"]
    if not isinstance(features, dict):
        raise KeyError(payload)
    return Receipt(features["batch_id"], features["events"], features["inserted"], str(event["ts"]))

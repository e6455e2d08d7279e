"""A process of its own that folds into a spool's state.db."""

import json
import os
import resource
import sys
from pathlib import Path

from tests.queue_package.context_samples import HASH, ORIGIN, at, changes, insight

from snowledger_queue import INSIGHT_ACTIVITY, Changes, ContextStore, StateError, new_event, open_spool

CUSTOMERS = 50


def step(number: int) -> Changes:
    """One event and one insight of each customer; the insight's value is the step's number."""
    lines = []
    for customer in range(CUSTOMERS):
        made = f"{customer:024x}{number:08x}"
        who = f"customer-{customer}"
        lines.append(
            new_event(
                ORIGIN, activity="cdesk.a", customer=who, feature_json={}, activity_id=made, ts=at(number / 100_000)
            ).line
        )
        features = {"subject": "s", "metric": "m", "value": number, "provenance_query_hash": HASH}
        lines.append(
            new_event(
                ORIGIN,
                activity=INSIGHT_ACTIVITY,
                customer=who,
                feature_json=features,
                activity_id=f"f{made[1:]}",
                ts=at(number / 100_000),
            ).line
        )
    counts = [(f"customer-{customer}", at()[:13], "cdesk.a", 1) for customer in range(CUSTOMERS)]
    return Changes(str(number), reset=False, more=False, counts=counts, lines=lines)


def fold_on(store: ContextStore) -> None:
    """Fold for ever, saying each time how far it is."""
    number = int(store.cursor or 0)
    while True:
        number += 1
        store.fold(step(number), at())
        store.confirm(at(number / 100_000), [f"stem-{number}"])
        os.write(1, b"%d\n" % number)


def fold_within_limit(store: ContextStore) -> None:
    """Fold until the file-size limit is hit, then lift it and fold again."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    folded = 0
    try:
        while True:
            value = "x" * 50_000
            store.fold(changes([insight(folded + 1, value, metric=f"m{folded}")], str(folded + 1)), at())
            folded += 1
    except StateError as error:
        facts: dict[str, object] = {"folded": folded, "transient": error.transient, "cursor_after_error": store.cursor}
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    store.fold(changes([insight(9_999)], "last"), at())
    sys.stdout.write(json.dumps(facts | {"cursor_after_all": store.cursor}))


def main(role: str, home: str) -> None:
    store = ContextStore.open(open_spool(Path(home)))
    if role == "fold":
        fold_on(store)
    else:
        fold_within_limit(store)
    store.close()


main(*sys.argv[1:])

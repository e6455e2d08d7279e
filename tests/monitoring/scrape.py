"""Asking a process how it goes, as Prometheus does."""

import json
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from prometheus_client.parser import text_string_to_metric_families


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Scrape:
    """All samples of one answer."""

    def __init__(self, text: str) -> None:
        self.text = text
        families = list(text_string_to_metric_families(text))
        self.documentation = {family.name: family.documentation for family in families}
        self.samples = [sample for family in families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels."""
        found = [
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert found, (name, labels)
        return sum(found)


def get(url: str, **headers: str) -> Answer:
    assert url.startswith("http://127.0.0.1:")
    try:
        with urlopen(Request(url, headers=headers), timeout=20) as response:  # noqa: S310 - checked
            return Answer(response.status, dict(response.headers), response.read().decode())
    except HTTPError as error:
        with error:
            return Answer(error.code, dict(error.headers), error.read().decode())


def scrape(url: str, **headers: str) -> Scrape:
    answer = get(f"{url}/metrics", **headers)
    assert answer.status == 200, answer
    return Scrape(answer.text)

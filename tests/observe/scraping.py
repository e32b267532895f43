"""What a service serves as metrics, read as Prometheus reads it."""

from __future__ import annotations

import typing
import urllib.request

from prometheus_client import parser

from tests import service as services


class Scrape:
    """One answer: its text, and values by name and labels."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = list(parser.text_string_to_metric_families(text))
        self.samples = [sample for family in self.families
                        for sample in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """The sum over all series of that name that have these labels."""
        return sum(
            sample.value for sample in self.samples
            if sample.name == f'glance_import_{name}'
            and labels.items() <= sample.labels.items())

    def labels(self, name: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in self.samples
                if sample.name == f'glance_import_{name}'}


def scrape(port: int) -> Scrape:
    """As soon as it is served."""
    def ask() -> Scrape | None:
        try:
            with urllib.request.urlopen(
                    f'http://127.0.0.1:{port}/metrics', timeout=30) as answer:
                return Scrape(answer.read().decode())
        except OSError:
            return None
    return services.wait_for(ask)


def until(port: int, true: typing.Callable[[Scrape], bool]) -> Scrape:
    """The first answer that is as it should be."""
    last: list[Scrape] = []

    def look() -> Scrape | None:
        last[:] = [scrape(port)]
        return last[0] if true(last[0]) else None
    try:
        return services.wait_for(look)
    except AssertionError:
        raise AssertionError(last and last[0].text) from None

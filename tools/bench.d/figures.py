# SPDX-License-Identifier: Apache-2.0
"""From samples to verdicts: medians, ratios, targets. No measuring here, so that tests can hold all of it."""

import collections
import statistics
from dataclasses import dataclass, field


@dataclass
class Figure:
    """What was measured of one subject, or why it was not."""
    samples: list[float] = field(default_factory=list)
    why_not: str = ""
    lost: list[str] = field(default_factory=list)       # for each run that has no sample: why
    disturbed: list[str] = field(default_factory=list)  # for each that has one all the same: by what

    @property
    def median(self) -> float | None:
        return statistics.median(self.samples) if self.samples else None

    @property
    def low(self) -> float | None:
        return min(self.samples, default=None)

    @property
    def high(self) -> float | None:
        return max(self.samples, default=None)


def incidents(samples: list[float], lost: list[str], disturbed: list[str]) -> list[str]:
    """What befell the runs of a figure that was measured, a line for each reason."""
    runs = len(samples) + len(lost)
    return [f"{count} of {runs} {what}: {why}" for what, reasons in (("lost", lost), ("disturbed", disturbed))
            for why, count in collections.Counter(map(last_line, reasons)).items()]


def last_line(text: str) -> str:
    return next(reversed(text.strip().splitlines()), "")


@dataclass(frozen=True)
class Target:
    """A bound on our figure: `bound` itself, or as many times the figure of `peer`."""
    bound: float
    peer: str = ""
    at_least: bool = False

    def text(self, show) -> str:
        sign = "≥" if self.at_least else "≤"
        if not self.peer:
            return f"{sign} {show(self.bound)}"
        return f"{sign} {self.bound:g} × {self.peer}"


@dataclass(frozen=True)
class Verdict:
    target: Target
    value: float | None = None  # our figure, or its ratio to the peer's
    held: bool | None = None    # None: cannot be said
    why_not: str = ""


def ratio(ours: Figure | None, theirs: Figure | None) -> float | None:
    if ours is None or theirs is None or ours.median is None or not theirs.median:
        return None
    return ours.median / theirs.median


def judge(target: Target, ours: Figure | None, figures: dict[str, Figure]) -> Verdict:
    """Whether a target holds. `figures` are the peers' by name."""
    if ours is None or ours.median is None:
        return Verdict(target, why_not="our figure was not measured")
    value: float | None = ours.median
    if target.peer:
        value = ratio(ours, figures.get(target.peer))
        if value is None:
            return Verdict(target, why_not=f"{target.peer} was not measured")
    assert value is not None
    return Verdict(target, value, value >= target.bound if target.at_least else value <= target.bound)


def show_number(value: float) -> str:
    """Three significant digits, or all before the point, with a space between thousands."""
    if value == 0:
        return "0"
    for digits, least in ((0, 100), (1, 10), (2, 1), (3, 0.1)):
        if abs(value) >= least:
            return f"{value:,.{digits}f}".replace(",", " ")
    return f"{value:.3g}"


def show(value: float, unit: str) -> str:
    return f"{show_number(value)} {unit}".rstrip()

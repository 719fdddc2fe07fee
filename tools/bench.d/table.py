# SPDX-License-Identifier: Apache-2.0
"""From the results of runs to the lines of the table."""

import figures
from experiments import EXPERIMENTS, called
from plan import Plan
from rows import Row


def gather(plan: Plan, experiment: str, metric: str, scale: float) -> dict[str, figures.Figure]:
    """A figure for each subject of an experiment."""
    found: dict[str, figures.Figure] = {}
    for (name, subject), why in plan.missing.items():
        if name == experiment:
            found[subject] = figures.Figure(why_not=why)
    for record in plan.records:
        if record.experiment.name == experiment and not record.aside:
            figure = found.setdefault(record.subject, figures.Figure())
            if metric in record.result:
                figure.samples.append(record.result[metric] * scale)
                if "disturbed" in record.result:
                    figure.disturbed.append(record.result["disturbed"])
            else:
                troubles = record.result.get("troubles", {})
                figure.lost.append(record.result.get("trouble") or troubles.get(metric.partition(".")[0])
                                   or f"its run told no {metric}")
                figure.why_not = figure.lost[-1]
    return found


def limit_of(plan: Plan, row: Row) -> float | None:
    values = [record.result[row.limit] * row.scale for record in plan.records
              if record.experiment.name == row.experiment and row.limit in record.result]
    return figures.Figure(values).median


def phases_of(plan: Plan, experiment: str) -> dict[str, dict[str, float]]:
    """For each subject that told them: the medians of when its phases began or how long they took."""
    samples: dict[str, dict[str, list[float]]] = {}
    for record in plan.records:
        if record.experiment.name == experiment and not record.aside:
            for name, value in record.result.get("phases", {}).items():
                samples.setdefault(record.subject, {}).setdefault(name, []).append(value)
    return {subject: {name: figures.Figure(values).median or 0 for name, values in phases.items()}
            for subject, phases in samples.items()}


class Line:
    """A row of the table with all that was found."""

    def __init__(self, plan: Plan, row: Row):
        self.row = row
        mine = gather(plan, row.experiment, row.metric, row.scale)
        theirs = gather(plan, row.against, row.metric, row.scale) if row.against else mine
        self.ours = mine.get(row.ours, figures.Figure(why_not="not run"))
        self.peers = {name: figure for name, figure in theirs.items() if not name.startswith("vmm")}
        self.limit = limit_of(plan, row) if row.limit else None
        self.verdicts = [figures.judge(target, self.ours, self.peers) for target in row.targets]
        self.where = called(plan.place(EXPERIMENTS[row.experiment]), plan.lab_cpus)
        self.phases = phases_of(plan, row.experiment) if row.phases_are else {}

    def plain(self) -> dict:
        def figure(of: figures.Figure) -> dict:
            told = {"why_not": of.why_not, "lost": of.lost, "disturbed": of.disturbed}
            return {"median": of.median, "samples": of.samples} | {name: what for name, what in told.items() if what}

        return {"name": self.row.name, "title": self.row.title, "where": self.where, "unit": self.row.unit,
                "subject": self.row.ours, "ours": figure(self.ours),
                "peers": {name: figure(of) | {"ratio": figures.ratio(self.ours, of)}
                          for name, of in self.peers.items()},
                "limit": {"value": self.limit, "is": self.row.limit_is} if self.row.limit else None,
                "phases": self.phases, "phases_are": self.row.phases_are,
                "targets": [{"target": verdict.target.text(lambda v: figures.show(v, self.row.unit)),
                             "value": verdict.value, "held": verdict.held}
                            | ({"why_not": verdict.why_not} if verdict.why_not else {}) for verdict in self.verdicts]}


def spread(figure: figures.Figure) -> str:
    if figure.low is None or figure.high is None or len(figure.samples) < 2:
        return ""
    return f"{figures.show_number(figure.low)}..{figures.show_number(figure.high)}"


def print_line(line: Line) -> None:
    row = line.row
    print(f"\n{row.name}: {row.title} ({line.where})")

    def print_figure(name: str, figure: figures.Figure, ours: bool) -> None:
        if figure.median is None:
            print(f"  {name:<22} not measured: {figures.last_line(figure.why_not)}")
            return
        relation = "" if ours else f"ours is {figures.show_number(figures.ratio(line.ours, figure) or 0)} × it" \
            if line.ours.median is not None else ""
        shown = figures.show(figure.median, row.unit)
        count = f"n={len(figure.samples)}" + (f" of {len(figure.samples) + len(figure.lost)}" if figure.lost else "")
        print(f"  {name:<22} {shown:>12}  {spread(figure):<16} {count}  {relation}".rstrip())
        for text in figures.incidents(figure.samples, figure.lost, figure.disturbed):
            print(f"  {'':<22} {text}")

    print_figure(row.ours, line.ours, True)
    for name, figure in line.peers.items():
        print_figure(name, figure, False)
    if line.limit is not None:
        print(f"  {'limit':<22} {figures.show(line.limit, row.unit):>12}  {row.limit_is}")
    for subject, phases in line.phases.items():
        told = ", ".join(f"{name} {figures.show(value, row.unit)}" for name, value in phases.items())
        print(f"  {subject}, {row.phases_are}: {told}")
    for verdict in line.verdicts:
        target = verdict.target.text(lambda v: figures.show(v, row.unit))
        if verdict.held is None or verdict.value is None:
            print(f"  target {target}: cannot be said, {verdict.why_not}")
        else:
            value = f"{figures.show_number(verdict.value)} ×" if verdict.target.peer else \
                figures.show(verdict.value, row.unit)
            print(f"  target {target}: {'held' if verdict.held else 'NOT HELD'}, {value}")

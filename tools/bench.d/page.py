# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML page: no script, no network, plots as inline SVG."""

from html import escape

from figures import incidents, show, show_number

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --dim: #667085; --line: #d8dde5; --ours: #0b6e4f; --peer: #9aa7b8;
        --bad: #b42318; --back: #ffffff; --soft: #f5f7fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --dim: #98a2b3; --line: #344054; --ours: #4fc79b; --peer: #667085; --bad: #f97066;
          --back: #12161d; --soft: #1b212b; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 2rem auto;
       max-width: 62rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.05rem; margin: 0; }
p { margin: .3rem 0; } .dim { color: var(--dim); font-size: .9rem; }
section { border-top: 1px solid var(--line); padding: 1.1rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; margin: 1rem 0; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); } td.n { text-align: right; }
th { color: var(--dim); font-weight: 600; } svg { display: block; width: 100%; height: auto; margin: .5rem 0; }
.held { color: var(--ours); font-weight: 600; } .missed { color: var(--bad); font-weight: 600; }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink); } svg .d { fill: var(--dim); }
svg .ours { fill: var(--ours); } svg .peer { fill: var(--peer); }
svg .dot { fill: var(--back); stroke: var(--ink); stroke-width: 1; }
svg .target { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 4 3; }
svg .limit { stroke: var(--dim); stroke-width: 1.5; stroke-dasharray: 1 3; }
"""

WIDTH, LABEL, VALUE, STEP = 960, 170, 150, 26  # pixels of the plot: all, the names, the figures, a bar


def verdict_text(target: dict, unit: str) -> str:
    if target["held"] is None:
        return f'<span class="dim">{escape(target["target"])}: cannot be said, {escape(target["why_not"])}</span>'
    value = f"{show_number(target['value'])} ×" if "×" in target["target"] else show(target["value"], unit)
    word, kind = ("held", "held") if target["held"] else ("not held", "missed")
    return f'{escape(target["target"])}: <span class="{kind}">{word}</span>, {escape(value)}'


def target_values(row: dict) -> list[float]:
    """Where the targets lie on the row's own scale."""
    found = []
    for target in row["targets"]:
        if target["held"] is not None and target["value"]:
            found.append(row["ours"]["median"] / target["value"] * bound(target["target"]))
    return found


def bound(text: str) -> float:
    words = text.split()[1:]
    number = ""
    for word in words:  # thousands are spaced
        if not word.replace(".", "", 1).isdigit():
            break
        number += word
    return float(number)


def plot(row: dict) -> str:
    bars = [(row["subject"], row["ours"], "ours"), *((name, figure, "peer") for name, figure in row["peers"].items())]
    bars = [bar for bar in bars if bar[1]["samples"]]
    if not bars:
        return ""
    targets = target_values(row)
    limit = row["limit"]["value"] if row["limit"] else None
    top = max([*(max(figure["samples"]) for _, figure, _ in bars), *targets, limit or 0]) or 1
    room = WIDTH - LABEL - VALUE

    def at(value: float) -> float:
        return LABEL + room * value / top

    height = STEP * len(bars) + 8
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(row["title"])}">']
    for index, (name, figure, kind) in enumerate(bars):
        y = 4 + STEP * index
        parts.append(f'<text x="{LABEL - 10}" y="{y + 17}" text-anchor="end">{escape(name)}</text>'
                     f'<rect class="{kind}" x="{LABEL}" y="{y + 4}" width="{at(figure["median"]) - LABEL:.1f}" '
                     f'height="{STEP - 8}" rx="2"/>')
        parts += [f'<circle class="dot" cx="{at(sample):.1f}" cy="{y + STEP / 2}" r="2.5"/>'
                  for sample in figure["samples"]]
        value = show(figure["median"], row["unit"])
        parts.append(f'<text x="{WIDTH - VALUE + 12}" y="{y + 17}">{escape(value)}</text>')
        if kind == "peer" and figure.get("ratio") is not None:
            parts.append(f'<text class="d" x="{WIDTH}" y="{y + 17}" text-anchor="end">'
                         f'{escape(show_number(figure["ratio"]))} ×</text>')
    parts += [f'<line class="target" x1="{at(value):.1f}" x2="{at(value):.1f}" y1="0" y2="{height}"/>'
              for value in targets]
    if limit is not None:
        parts.append(f'<line class="limit" x1="{at(limit):.1f}" x2="{at(limit):.1f}" y1="0" y2="{height}"/>')
    return "".join(parts) + "</svg>"


def section(row: dict) -> str:
    parts = [f'<section id="{escape(row["name"])}"><h2>{escape(row["title"])}</h2>'
             f'<p class="dim">{escape(row["name"])} · {escape(row["where"])}</p>', plot(row)]
    if not row["ours"]["samples"]:
        parts.append(f'<p>Not measured: {escape(row["ours"].get("why_not", ""))}</p>')
    parts += [f"<p>{verdict_text(target, row['unit'])}</p>" for target in row["targets"]]
    if row["limit"] and row["limit"]["value"] is not None:
        parts.append(f'<p class="dim">limit {escape(show(row["limit"]["value"], row["unit"]))}: '
                     f'{escape(row["limit"]["is"])}</p>')
    for subject, phases in row.get("phases", {}).items():
        told = ", ".join(f"{name} {show(value, row['unit'])}" for name, value in phases.items())
        parts.append(f'<p class="dim">{escape(subject)}, {escape(row["phases_are"])}: {escape(told)}</p>')
    told = [f"{name}: {figure.get('why_not', '')}" for name, figure in row["peers"].items() if not figure["samples"]]
    for name, figure in [(row["subject"], row["ours"]), *row["peers"].items()]:
        if figure["samples"]:
            told += [f"{name}: {text}" for text in incidents(figure["samples"], figure.get("lost", []),
                                                             figure.get("disturbed", []))]
    parts += [f'<p class="dim">{escape(text)}</p>' for text in told]
    return "\n".join(parts) + "</section>"


def summary(rows: list[dict]) -> str:
    lines = []
    for row in rows:
        ours = show(row["ours"]["median"], row["unit"]) if row["ours"]["median"] is not None else "–"
        verdicts = "<br>".join(verdict_text(target, row["unit"]) for target in row["targets"])
        lines.append(f'<tr><td><a href="#{escape(row["name"])}">{escape(row["name"])}</a></td>'
                     f'<td class="n">{escape(ours)}</td><td>{verdicts}</td></tr>')
    return "<table><tr><th>row</th><th>ours</th><th>targets</th></tr>" + "\n".join(lines) + "</table>"


def render(report: dict) -> str:
    about = report["about"]
    programs = "<br>".join(f"{escape(kind)}: {escape(version)}" for kind, version in about["programs"].items())
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>vmm beside its peers</title><style>{STYLE}</style>
<h1>vmm beside its peers</h1>
<p class="dim">{escape(about["date"])} · commit {escape(about["commit"])} · {escape(about["cpu"])},
{about["cpus"]} CPUs, Linux {escape(about["kernel"])} · {about["seconds"]} s{" · quick" if about["quick"] else ""}</p>
<p class="dim">{programs}</p>
<p>A bar is a median, a circle a single run. Dashed: the target; dotted: the limit. On the right of a peer's figure:
ours as a multiple of it. Figures of one plot were measured in turn in one run; in a software machine the ratios mean
something, the times do not.</p>
{summary(report["rows"])}
{"".join(section(row) for row in report["rows"])}
</html>
"""

"""Holds the dashboard against a real Prometheus: every expression of every panel must give a number at some time of
the run, and every series the labels that its legend names. Writes a page that draws all panels as Grafana would.

dashboard.py DASHBOARD PROMETHEUS BEGIN END [PAGE UPLOT]
"""

import json
import math
import re
import string
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

# What Grafana would put in place of its variables, for a scrape interval of one second.
VARIABLES = {"$__rate_interval": "15s", "$job": ".*"}
STEP = 1


def panels(dashboard):
    """All panels but rows, also those inside collapsed rows."""
    for panel in dashboard["panels"]:
        yield from (p for p in [panel, *panel.get("panels", [])] if p["type"] != "row")


def substitute(expression):
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def ask(prometheus, expression, begin, end):
    """The series of a range query."""
    query = urllib.parse.urlencode({"query": expression, "start": begin, "end": end, "step": STEP})
    try:
        with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{query}", timeout=30) as answer:
            return json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as error:
        raise ValueError(json.load(error)["error"]) from error


def examine(target, prometheus, begin, end):
    """The series of one expression, and what is wrong with it."""
    expression = substitute(target["expr"])
    if "$" in expression:
        return [], [f"a variable is left in {expression}"]
    try:
        found = ask(prometheus, expression, begin, end)
    except ValueError as error:
        return [], [str(error)]
    series, wrong = [], []
    for one in found:
        points = [(float(t), float(v)) for t, v in one["values"]]
        points = [(t, v) for t, v in points if math.isfinite(v)]
        if not points:
            continue
        legend, missing = named(target["legendFormat"], one["metric"])
        wrong += [f"the legend's label {label} is not in {one['metric']}" for label in missing]
        series.append({"name": legend, "points": points})
    return series, wrong or ([] if series else [f"no data: {expression}"])


def named(legend, labels):
    """A legend's text, and the labels that it names in vain."""
    names = re.findall(r"{{\s*(\w+)\s*}}", legend)
    text = re.sub(r"{{\s*(\w+)\s*}}", lambda match: labels.get(match[1], "?"), legend)
    return text, [name for name in names if not labels.get(name)]


def main():
    dashboard = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    prometheus, begin, end = sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    bad, count, drawn = [], 0, []
    for panel in panels(dashboard):
        series = []
        for target in panel["targets"]:
            count += 1
            found, wrong = examine(target, prometheus, begin, end)
            series += found
            bad += [f"{panel['title']}: {reason}" for reason in wrong]
        defaults = panel["fieldConfig"]["defaults"]
        kept = {key: panel[key] for key in ("type", "title", "gridPos")}
        drawn.append(kept | {"defaults": defaults, "series": series})
    if len(sys.argv) > 5:
        rows = [panel for panel in dashboard["panels"] if panel["type"] == "row"]
        draw(Path(sys.argv[5]), Path(sys.argv[6]), {"title": dashboard["title"], "rows": rows, "panels": drawn, "begin": begin, "end": end})
    for reason in dict.fromkeys(bad):
        print(f"  {reason}", file=sys.stderr)
    print(f"{len(drawn)} panels, {count} expressions, {len(set(bad))} wrong")
    sys.exit(1 if bad else 0)


def draw(page, uplot, data):
    """A page of its own: template, library and data in one file."""
    template = string.Template((Path(__file__).parent / "dashboard.html").read_text(encoding="utf-8"))
    script = (uplot / "uPlot.iife.min.js").read_text(encoding="utf-8")
    style = (uplot / "uPlot.min.css").read_text(encoding="utf-8")
    text = json.dumps(data).replace("<", "\\u003c")
    page.write_text(template.substitute(script=script, style=style, data=text), encoding="utf-8")


main()

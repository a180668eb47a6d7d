# SPDX-License-Identifier: Apache-2.0
"""What bench/comparison found, as docs/results.json, the tables of docs/results.md and its plots."""

import collections
import json
import pathlib
import statistics

import matplotlib

from page import put, table

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "elastic"
import matplotlib.pyplot as plt  # noqa: E402

STEPS = ("plain", "momentum", "nesterov")
NAMES = {"bsp": "BSP", "sync_easgd": "sync EASGD", "async_easgd": "async EASGD", "none": "never"}
COLORS = {"bsp": "black", "sync_easgd": "tab:blue", "async_easgd": "tab:orange"}
STYLES = {1: "-", 4: "--", 16: "-.", 64: ":"}
SETS = {"fashion": "Fashion-MNIST, perceptron 784-512-512-10", "cifar10": "CIFAR-10, the EASGD paper's net"}
IMAGES = {"fashion": 60_000, "cifar10": 50_000}


def link_name(link):
    mbits, trip = link
    rate = f"{mbits // 1000} Gbit/s" if mbits >= 1000 else f"{mbits} Mbit/s"
    return f"{rate}, {trip * 1e3:g} ms"


def spread(values):
    """Mean with the lowest and the highest."""
    return {"mean": statistics.mean(values), "low": min(values), "high": max(values), "seeds": len(values)}


def collect(folder):
    """The summary: curves and rates by cell, over the seeds."""
    curves, rates = collections.defaultdict(list), collections.defaultdict(list)
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text())
        outcome = run["outcome"]
        link = tuple(run["link"])
        if run["epochs"]:
            curves[run["study"], run["workers"], run["step"], run["rule"], run["period"]].append((run, outcome))
        else:
            study = run["study"].split("-", 1)[1]
            rates[study, link, run["workers"], run["rule"], run["period"]].append((run, outcome))
    summary = {"curves": [], "rates": []}
    for (study, workers, step, rule, period), runs in sorted(curves.items()):
        points = min(len(o["curve"]) for _, o in runs)
        # curves of one cell are taken at the samples of the first: a tester's moments are not exactly equal
        picked = [[at(o["curve"], p["samples"]) for _, o in runs] for p in runs[0][1]["curve"][:points]]
        samples = [p["samples"] for p in runs[0][1]["curve"][:points]]
        total = statistics.mean(o["samples"] for _, o in runs)
        summary["curves"].append({
            "data": study, "workers": workers, "step": step, "rule": rule, "period": period,
            "learning_rate": runs[0][0]["learning_rate"], "epochs": runs[0][0]["epochs"],
            "worker_bytes_per_sample": statistics.mean(o["worker_bytes"] for _, o in runs) / total,
            "parameters": runs[0][1]["parameters"],
            "final": spread([o["curve"][-1]["test_error"] for _, o in runs]),
            "samples": samples,
            "test_error": [spread(values) for values in picked]})
    for (study, link, workers, rule, period), runs in sorted(rates.items()):
        values = [o["images_per_second"] for _, o in runs]
        parts = {part: statistics.median(o["worker_seconds"][part] / sum(o["worker_seconds"].values()) for _, o in runs)
                 for part in runs[0][1]["worker_seconds"]}
        summary["rates"].append({
            "data": study, "link": list(link), "workers": workers, "rule": rule, "period": period,
            "images_per_second": statistics.median(values), "low": min(values), "high": max(values), "rounds": len(values),
            "shares": parts, "bytes_per_sample": statistics.median(o["worker_bytes"] / o["samples"] for _, o in runs),
            "measured_link": {k: statistics.median(r["measured_link"][k] for r, _ in runs) for k in ("mbits", "trip")}
            if link else {}})
    return summary


def at(curve, samples):
    """Test error after so many samples, between the two moments around them."""
    before = curve[0]
    for point in curve:
        if point["samples"] >= samples:
            if point["samples"] == before["samples"]:
                return point["test_error"]
            share = (samples - before["samples"]) / (point["samples"] - before["samples"])
            return before["test_error"] + share * (point["test_error"] - before["test_error"])
        before = point
    return curve[-1]["test_error"]


def rate_of(summary, data, link, workers, rule, period):
    for r in summary["rates"]:
        if (r["data"], tuple(r["link"]), r["workers"], r["rule"], r["period"]) == (data, tuple(link), workers, rule, period):
            return r
    return None


def percent(final):
    if final["mean"] > 0.9:
        return "diverged"
    if final["seeds"] == 1:
        return f"{100 * final['mean']:.1f}"
    return f"{100 * final['mean']:.1f} ({100 * final['low']:.1f} - {100 * final['high']:.1f})"


def error_tables(summary):
    parts = []
    for data, title in SETS.items():
        cells = [c for c in summary["curves"] if c["data"] == data]
        for workers in sorted({c["workers"] for c in cells}):
            mine = [c for c in cells if c["workers"] == workers]
            seeds = max(c["final"]["seeds"] for c in mine)
            rows = []
            for rule, period in sorted({(c["rule"], c["period"]) for c in mine}, key=lambda k: (list(NAMES).index(k[0]), k[1])):
                found = {c["step"]: c for c in mine if (c["rule"], c["period"]) == (rule, period)}
                n = next(iter(found.values()))["parameters"]
                exact = n * 4 * 2 / period / 32  # what travels to and from a worker, whatever carries it
                rows.append([NAMES[rule], "" if rule == "bsp" else str(period),
                             *(percent(found[s]["final"]) if s in found else "" for s in STEPS), f"{exact / 1e3:,.3g}"])
            parts.append(f"**{title}**, {workers} worker{'s' if workers > 1 else ''}, {mine[0]['epochs']:g} epochs, up to {seeds} "
                         "seeds: test error in %, mean (lowest - highest)\n\n" +
                         table(["rule", "period", "plain", "momentum", "Nesterov", "KB a sample"], rows))
    return "\n\n".join(parts)


def rate_tables(summary):
    parts = []
    for data, title in SETS.items():
        mine = [r for r in summary["rates"] if r["data"] == data and not r["link"]]
        rows = []
        for rule, period in sorted({(r["rule"], r["period"]) for r in mine}, key=lambda k: (list(NAMES).index(k[0]), k[1])):
            row = [NAMES[rule], str(period) if "easgd" in rule else ""]
            for workers in (1, 2, 4):
                r, alone = (rate_of(summary, data, (), workers, *cell) for cell in ((rule, period), ("none", 1)))
                row.append(f"{r['images_per_second']:,.0f} ({r['images_per_second'] / alone['images_per_second']:.2f})"
                           if r and alone else "")
            rows.append(row)
        if rows:
            parts.append(f"**{title}**, shared memory: images/s of all workers (share of as many that never communicate)\n\n" +
                         table(["rule", "period", "1 worker", "2 workers", "4 workers on two cores"], rows))
        links = sorted({tuple(r["link"]) for r in summary["rates"] if r["data"] == data and r["link"]}, key=lambda k: (-k[0], k[1]))
        rows = []
        for rule, period in sorted({(r["rule"], r["period"]) for r in summary["rates"] if r["data"] == data and r["link"]},
                                   key=lambda k: (list(NAMES).index(k[0]), k[1])):
            alone = rate_of(summary, data, (), 2, "none", 1)
            row = [NAMES[rule], str(period) if "easgd" in rule else ""]
            for link in links:
                r = rate_of(summary, data, link, 2, rule, period)
                row.append(f"{100 * r['images_per_second'] / alone['images_per_second']:.0f}" if r and alone else "")
            rows.append(row)
        if rows:
            seen = [next(r["measured_link"] for r in summary["rates"] if tuple(r["link"]) == link) for link in links]
            rows.append(["*measured*", "", *(f"{m['mbits']:,.0f} Mbit/s, {m['trip'] * 1e3:.1f} ms" for m in seen)])
            parts.append(f"**{title}**, 2 workers over TCP: rate as % of two that never communicate\n\n" +
                         table(["rule", "period", *map(link_name, links)], rows))
    return "\n\n".join(parts)


def time_table(summary):
    """Seconds to a test error that every rule reaches."""
    parts = []
    for data, title in SETS.items():
        cells = [c for c in summary["curves"] if c["data"] == data and c["workers"] == 2 and c["step"] == "nesterov"]
        links = [(), *sorted({tuple(r["link"]) for r in summary["rates"] if r["data"] == data and r["link"]},
                             key=lambda k: (-k[0], k[1]))]
        if not cells or not any(rate_of(summary, data, link, 2, c["rule"], c["period"]) for link in links for c in cells):
            continue
        goal = max(min(p["mean"] for p in c["test_error"]) for c in cells if c["final"]["mean"] < 0.5)
        goal = -(-goal * 200 // 1) / 200  # up to the next half percent
        rows = []
        for c in sorted(cells, key=lambda c: (list(NAMES).index(c["rule"]), c["period"])):
            reached = next((s for s, e in zip(c["samples"], c["test_error"]) if e["mean"] <= goal), None)
            row = [NAMES[c["rule"]], str(c["period"]) if "easgd" in c["rule"] else "", f"{reached:,.0f}" if reached else "not reached"]
            for link in links:
                r = rate_of(summary, data, link, 2, c["rule"], c["period"])
                row.append(f"{reached / r['images_per_second']:.3g}" if r and reached else "")
            rows.append(row)
        parts.append(f"**{title}**, 2 workers, Nesterov: samples, and seconds over each link, to {100 * goal:.1f} % test error\n\n" +
                     table(["rule", "period", "samples", "shared memory", *map(link_name, links[1:])], rows))
    return "\n\n".join(parts)


def draw(summary, docs):
    for data, title in SETS.items():
        cells = [c for c in summary["curves"] if c["data"] == data and c["workers"] == 2 and c["step"] == "nesterov"]
        if not cells:
            continue
        axes_of = [("samples", None), ("seconds, shared memory", ()), ("seconds, 1 Gbit/s and 5 ms", (1000, 5e-3)), ("bytes to and from a worker", None)]
        figure, axes = plt.subplots(1, 4, figsize=(18, 4.2), sharey=True)
        for axis, (what, link) in zip(axes, axes_of):
            for c in cells:
                x = c["samples"]
                if link is not None:
                    r = rate_of(summary, data, link, 2, c["rule"], c["period"])
                    if not r:
                        continue
                    x = [s / r["images_per_second"] for s in x]
                elif what.startswith("bytes"):
                    x = [s * c["parameters"] * 8 / c["period"] / 32 / 2 for s in x]
                mean = [100 * e["mean"] for e in c["test_error"]]
                label = NAMES[c["rule"]] + (f", period {c['period']}" if c["rule"] != "bsp" else "")
                axis.plot(x, mean, STYLES[c["period"]], color=COLORS[c["rule"]], label=label, linewidth=1.3)
                axis.fill_between(x, [100 * e["low"] for e in c["test_error"]], [100 * e["high"] for e in c["test_error"]],
                                  color=COLORS[c["rule"]], alpha=0.08, linewidth=0)
            axis.set_xlabel(what)
            axis.grid(alpha=0.3)
            if link is not None or what.startswith("bytes"):
                axis.set_xscale("log")
        finals = [100 * e["mean"] for c in cells for e in c["test_error"]]
        axes[0].set_ylim(min(finals) * 0.95, min(finals) * 2.2)
        axes[0].set_ylabel("test error of the center, %")
        axes[-1].legend(fontsize=7)
        figure.suptitle(f"{title}: 2 workers, Nesterov")
        figure.tight_layout()
        figure.savefig(docs / f"results-{data}.svg", metadata={"Date": None})
        plt.close(figure)


def report(runs, docs):
    summary = collect(runs)
    if not summary["curves"] and not summary["rates"]:
        raise SystemExit(f"bench/comparison: no runs in {runs}; bench/comparison run makes them")
    pathlib.Path(docs / "results.json").write_text(json.dumps(summary, indent=1) + "\n")
    for name, content in (("errors", error_tables(summary)), ("rates", rate_tables(summary)), ("times", time_table(summary))):
        put(docs / "results.md", name, "bench/comparison", content)
    draw(summary, docs)
    print(f"{len(summary['curves'])} curves, {len(summary['rates'])} rates: docs/results.md, docs/results.json, docs/results-*.svg")
    return 0

# SPDX-License-Identifier: Apache-2.0
"""Reads what benches have written: Google Benchmark's JSON, or that of bench/transports/run."""

import json
import re
import sys

NAME = re.compile(r"(?P<what>(?:round|step)/[^/]+|[^/]+)/(?P<transport>[^/]+)/(?P<device>[^/]+)(?:/(?P<bytes>\d+))?/ranks:(?P<ranks>\d+)$")


def fail(script, why):
    sys.exit(f"{script}: {why}")


def read(path, script):
    """The file as it is; ends the program where there is none, or none of ours."""
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        fail(script, f"{path}: {error.strerror}")
    except ValueError as error:
        fail(script, f"{path}: not JSON: {error}")
    if not isinstance(data, dict) or not ("benchmarks" in data or "results" in data):
        fail(script, f"{path}: expected the JSON of Google Benchmark (\"benchmarks\") or of bench/transports/run (\"results\")")
    return data


def short(name):
    """A benchmark's name without what Google Benchmark appends to it."""
    return re.sub(r"/(iterations:\d+|repeats:\d+|manual_time|real_time|process_time)(?=/|$)", "", name)


def repetitions(data):
    """Of Google Benchmark's JSON: {name: [run, ...]}, one run a repetition, without aggregates, refusals and failures."""
    found = {}
    for run in data["benchmarks"]:
        if run.get("run_type") == "aggregate" or run.get("error_occurred") or run.get("label", "").startswith("refused"):
            continue
        found.setdefault(short(run["run_name"]), []).append(run)
    return found


def seconds(run):
    return run["real_time"] * {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1}[run["time_unit"]]


def failures(data):
    """Names of benchmarks that have found wrong data."""
    return sorted({short(run["run_name"]) for run in data.get("benchmarks", ()) if run.get("error_occurred")})


def times(data):
    """{name: [seconds, ...]} of either kind of file, one a repetition or a round."""
    if "benchmarks" in data:
        return {name: [seconds(run) for run in runs] for name, runs in repetitions(data).items()}
    return {f"{r['what']}/{r['bytes']}/ranks:{r['ranks']}/{who}": list(values)
            for r in data["results"] for who, values in r["times"].items()}


def median(values):
    return statistics.median(values)

#!/usr/bin/env python3
"""Heating and cooling degree days of each airport and month, from hourly temperatures, for a container.

usage: degree_days.py DATA [FOLDER]

Prints one line of CSV for each airport and month, and writes FOLDER/summary.json where a folder is given. A day's degrees
are those of its mean temperature, in °F, below and above 65; days with less than 18 hours of data are left out.
"""

import csv
import json
import pathlib
import statistics
import sys

BASE = 65
LEAST_HOURS = 18


def days(path):
    """Mean temperature of each day: {(origin, month, day): mean}."""
    hours = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["temp"] not in ("", "NA"):
                day = (row["origin"], int(row["month"]), int(row["day"]))
                hours.setdefault(day, []).append(float(row["temp"]))
    return {day: statistics.fmean(temps) for day, temps in hours.items() if len(temps) >= LEAST_HOURS}


def main():
    months = {}
    for (origin, month, _), mean in days(sys.argv[1]).items():
        months.setdefault((origin, month), []).append(mean)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["origin", "month", "days", "mean", "heating", "cooling"])
    summary = {}
    for (origin, month), means in sorted(months.items()):
        heating = sum(max(0, BASE - mean) for mean in means)
        cooling = sum(max(0, mean - BASE) for mean in means)
        writer.writerow([origin, month, len(means), *(f"{n:.2f}" for n in (statistics.fmean(means), heating, cooling))])
        total = summary.setdefault(origin, {"days": 0, "heating": 0.0, "cooling": 0.0})
        total["days"] += len(means)
        total["heating"] = round(total["heating"] + heating, 6)
        total["cooling"] = round(total["cooling"] + cooling, 6)
    if len(sys.argv) > 2:
        text = json.dumps(summary, indent=2, sort_keys=True) + "\n"
        (pathlib.Path(sys.argv[2]) / "summary.json").write_text(text, encoding="utf-8")
    print(f"{len(summary)} airports", file=sys.stderr)


if __name__ == "__main__":
    main()

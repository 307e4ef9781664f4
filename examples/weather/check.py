#!/usr/bin/env python3
"""Computes the statistics of program.wasm again, with nothing but Python's standard library, and compares.

usage: check.py DATA OUTPUT [--by COLUMN,...] [--columns COLUMN,...]

Every line of OUTPUT must be there, in order, and every number must be the exact value rounded to the printed
places. Exit status: 0 the same, 1 a difference (each is printed), 2 wrong usage or unreadable files.
"""

import argparse
import csv
import statistics
import sys
from fractions import Fraction

STATISTICS = ["count", "missing", "mean", "sd", "min", "q1", "median", "q3", "max"]
MISSING = ("", "NA")
# Half a unit in the last of the six printed places, and room for rounding in the program's own doubles.
TOLERANCE = Fraction(1, 2 * 10**6) + Fraction(1, 10**9)


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def split(columns):
    return columns.split(",") if columns else None


def read_table(path, by, columns):
    """The group columns, the described columns, and the values: {group: {column: [text, ...]}}, in order."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    header = list(rows[0])
    by = by or header[:1]
    if columns is None:
        first = {name: next((row[name] for row in rows if row[name] not in MISSING), "") for name in header}
        columns = [name for name in header if name not in by and is_number(first[name])]
    groups = {}
    for row in rows:
        group = groups.setdefault(tuple(row[name] for name in by), {name: [] for name in columns})
        for name in columns:
            group[name].append(row[name])
    return by, columns, groups


def describe(texts):
    """Exact statistics of one column of one group, None where there is no such number."""
    values = sorted(float(text) for text in texts if text not in MISSING)
    result = {"count": len(values), "missing": len(texts) - len(values)}
    if values:
        quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        result |= {
            "mean": statistics.mean(values),
            "sd": statistics.stdev(values) if len(values) > 1 else None,
            "min": values[0],
            "q1": quartiles[0],
            "median": statistics.median(values),
            "q3": quartiles[2],
            "max": values[-1],
        }
    return result


def differs(printed, exact):
    if exact is None:
        return printed != "NA"
    if isinstance(exact, int):
        return printed != str(exact)
    try:
        return abs(Fraction(printed) - Fraction(exact)) > TOLERANCE
    except ValueError:
        return True


def compare(data, output, by, columns):
    """One line of text for each difference, and how many numbers were compared."""
    by, columns, groups = read_table(data, by, columns)
    with open(output, newline="", encoding="utf-8") as file:
        printed = list(csv.reader(file))
    wanted_header = [*by, "column", *STATISTICS]
    wanted = [(group, name) for group in groups for name in columns]
    differences = []
    if printed[:1] != [wanted_header]:
        differences.append(f"header: {printed[:1]} is not {wanted_header}")
    if len(printed) - 1 != len(wanted):
        differences.append(f"{len(printed) - 1} lines, not {len(wanted)}")
    compared = 0
    for line, (group, name) in zip(printed[1:], wanted):
        if line[: len(by) + 1] != [*group, name] or len(line) != len(wanted_header):
            differences.append(f"{line} is no line for {group} {name}")
            continue
        exact = describe(groups[group][name])
        for label, text in zip(STATISTICS, line[len(by) + 1 :]):
            compared += 1
            if differs(text, exact.get(label)):
                differences.append(f"{' '.join(group)} {name} {label}: printed {text}, computed {exact.get(label)}")
    return differences, compared


def main():
    parser = argparse.ArgumentParser(description="compares the program's statistics with independent ones")
    parser.add_argument("data")
    parser.add_argument("output")
    parser.add_argument("--by", type=split)
    parser.add_argument("--columns", type=split)
    arguments = parser.parse_args()
    try:
        differences, compared = compare(arguments.data, arguments.output, arguments.by, arguments.columns)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for difference in differences:
        print(f"differs: {difference}", file=sys.stderr)
    if differences:
        return 1
    print(f"{compared} numbers computed again: all the same")
    return 0


if __name__ == "__main__":
    sys.exit(main())

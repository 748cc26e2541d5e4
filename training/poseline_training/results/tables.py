"""Every table of the results page, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from poseline_training.results.rows import (
    FIGURES,
    RECOGNITION,
    Figure,
    Row,
    Rows,
    figures_of,
    interval_of,
    mean,
    value_of,
)
from poseline_training.results.settings import AimSettings

MISSING = "(not measured)"
_NONE = _TO = "\N{EN DASH}"
_COST = ("seed", "steps", "CPU min")
_NAMES = {"real": "Mean of the real untrimmed sets", "all": "Mean of all sets"}

_SEES_ALL = "centred_u"

Cells = list[str]


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(one) + " |" for one in [header, ["---", *["---:"] * (len(header) - 1)], *lines])


def number(value: float | None, digits: int | None = None) -> str:
    """Three digits after the point, one from ten on, unless `digits` says otherwise."""
    if value is None:
        return _NONE
    return f"{value:z.{(1 if abs(value) >= 10 else 3) if digits is None else digits}f}"


def of_figures(rows: Rows, names: Sequence[str], of: Sequence[str], figures: Sequence[Figure] = FIGURES) -> str:
    """A table for each of `of`; a row of several seeds as their mean and each of them."""
    parts: list[str] = []
    for one in of:
        lines: list[Cells] = []
        for name in names:
            lines += _lines(name, rows.get(name), partial(_figure_cells, of=one, figures=figures), len(figures))
            if len(found := rows.get(name)) > 1:
                means = [number(mean([value_of(figures_of(row, one), f) for row in found])) for f in figures]
                lines.insert(
                    len(lines) - len(found), [f"**{name}**, mean of {len(found)} seeds", *_cost(found), *means]
                )
        heading = [f"**{_NAMES.get(one, one)}**"] if len(of) > 1 or one not in _NAMES else []
        parts += [*heading, table(["", *_COST, *(f.title for f in figures)], lines)]
    return "\n\n".join(parts)


def beside(made: Row, kept: Sequence[Row]) -> str:
    """A row that was made again, its figures beside those of the kept one: each set, then the means."""
    lines: list[Cells] = []
    for of in (*made["sets"], *made["means"]):
        lines.append([f"{of}: made again", *_cost([made]), *_figure_cells(made, of, FIGURES)])
        lines += [[f"{of}: kept", *_cost([row]), *_figure_cells(row, of, FIGURES)] for row in kept]
    return table([made["name"], *_COST, *(f.title for f in FIGURES)], lines)


def sets(rows: Rows, names: Sequence[str]) -> str:
    """What was measured on: how much, of how many."""
    lines: list[Cells] = []
    for row in [row for name in names for row in rows.get(name)][:1]:
        for corpus, found in row["sets"].items():
            instances = sum(one["instances"] for one in found["classes"].values())
            counts = (found["sequences"], found["persons"], instances, len(found["classes"]))
            share = number(found["background_share"], 2)
            lines.append([f"{corpus}, {found['split']}", number(found["seconds"] / 60, 1), *map(str, counts), share])
    header = ["", "minutes", "recordings", "persons", "instances", "classes", "share of background"]
    return table(header, lines) if lines else MISSING


def aims(rows: Rows, names: Sequence[str], wanted: Sequence[AimSettings]) -> str:
    """What was wanted beside what was reached."""
    lines: list[Cells] = []
    for name in names:
        found = rows.get(name)
        for aim in wanted if found else ():
            values = [value_of(figures_of(row, aim.of), Figure(aim.title, aim.path)) for row in found]
            reached = mean(values)
            if aim.most is None:
                bound, sign, met = aim.least, "at least", reached is not None and reached >= (aim.least or 0)
            else:
                bound, sign, met = aim.most, "at most", reached is not None and reached <= aim.most
            each = ", ".join(map(number, values))
            lines.append(
                [
                    f"{aim.title} ({aim.of})",
                    f"{sign} {number(bound, 2)}",
                    number(reached),
                    each,
                    "yes" if met else "**no**",
                ]
            )
    return table(["", "wanted", "reached", "each run", "met"], lines) if lines else MISSING


def won_back(rows: Rows, names: Sequence[str], of: Sequence[str]) -> str:
    """Of what a causal network (the first name) gives up against one that sees everything (the last), how much look-ahead
    wins back. Where nothing is given up there is nothing to win."""
    figures = [figure for figure in FIGURES if not figure.online]
    lines: list[Cells] = []
    first, *between, last = (rows.get(name)[:1] for name in names)
    for one in of if first and last else ():
        low, high = (figures_of(row[0], one) for row in (first, last))
        for row in (row for found in between for row in found):
            cells = [_won(*(value_of(x, figure) for x in (low, figures_of(row, one), high))) for figure in figures]
            lines.append([f"{row['name']}: {_NAMES.get(one, one).lower()}", *cells])
    return table(["", *(figure.title for figure in figures)], lines) if lines else MISSING


def _won(low: float | None, value: float | None, high: float | None) -> str:
    if low is None or value is None or high is None:
        return _NONE
    return "no gap" if high <= low else f"{(value - low) / (high - low):.0%}"


def _lines(name: str, found: Sequence[Row], cells: Callable[[Row], Cells], width: int) -> list[Cells]:
    if not found:
        return [[name, *[_NONE] * len(_COST), *_missing(width)]]
    return [[row["name"], *_cost([row]), *cells(row)] for row in found]


def _missing(width: int) -> Cells:
    return [MISSING, *[""] * (width - 1)]


def _cost(rows: Sequence[Row]) -> Cells:
    """Seeds, steps, CPU minutes; of several rows the seeds and means."""
    seeds = ", ".join(str(row["seed"]) for row in rows if row["seed"] is not None)
    return [
        seeds or _NONE,
        number(mean([row["steps"] for row in rows]), 0),
        number(mean([row["cpu_minutes"] for row in rows]), 1),
    ]


def _figure_cells(row: Row, of: str, figures: Sequence[Figure]) -> Cells:
    measured, late = figures_of(row, of), row.get("body") == _SEES_ALL
    return [
        _NONE if late and f.online else _with_interval(value_of(measured, f), interval_of(measured, f)) for f in figures
    ]


def _with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
    around = "" if interval is None else f" ({number(interval[0])}{_TO}{number(interval[1])})"
    return number(value) + around


def costs(rows: Rows, names: Sequence[str]) -> str:
    """What each network is: the first seed stands for all."""
    lines: list[Cells] = []
    for name in names:
        for row in rows.get(name)[:1]:
            size, work = row["parameters"], row["multiply_adds"]
            lines.append(
                [name, str(row["body"]), _NONE if size is None else f"{size:,}", _NONE if work is None else f"{work:,}"]
            )
    return table(["", "body", "parameters", "multiply-adds a frame"], lines) if lines else ""


def negatives(rows: Rows, names: Sequence[str], of: Sequence[str]) -> str:
    """Motion that holds none of a row's classes, by whether training had its content as background in other manners."""
    lines: list[Cells] = []
    for corpus in of:
        for name in names:
            for row in rows.get(name):
                if found := row["negatives"][corpus]:
                    halves = [_alarms(found, seen) for seen in (True, False)]
                    said = ", ".join(f"{label} {n}" for label, n in list(found["said"].items())[:3])
                    lines.append([f"{corpus}: {row['name']}", *_cost([row]), *halves[0], *halves[1], said or "nothing"])
    header = [
        "",
        *_COST,
        "minutes of contents seen",
        "finals",
        "an hour",
        "of contents never seen",
        "finals",
        "an hour",
    ]
    return table([*header, "most often"], lines) if lines else MISSING


def _alarms(found: Row, seen: bool) -> Cells:
    """Minutes, finals, finals an hour."""
    chosen = [one for one in found["contents"].values() if one["seen"] == seen]
    seconds, finals = sum(one["seconds"] for one in chosen), sum(one["finals"] for one in chosen)
    return [number(seconds / 60, 1), str(finals), number(3600 * finals / seconds if seconds else None, 1)]


def recomposed(rows: Rows, names: Sequence[str], of: Sequence[str]) -> str:
    """Stitched sets as shipped, and of the same clips composed anew."""
    lines: list[Cells] = []
    for corpus in of:
        for name in names:
            for row in rows.get(name):
                for kind, measured in (("shipped", row), ("composed anew", row["recomposed"])):
                    if measured and figures_of(measured, corpus):
                        cells = _figure_cells({**measured, "body": row["body"]}, corpus, FIGURES)
                        lines.append([f"{corpus}, {kind}: {row['name']}", *_cost([row]), *cells])
    return table(["", *_COST, *(f.title for f in FIGURES)], lines) if lines else MISSING


def trimmed(rows: Rows, names: Sequence[str], of: Sequence[str]) -> str:
    """Online recognition of trimmed clips, by how much of the clip has been seen."""
    lines: list[Cells] = []
    for corpus in of:
        for name in names:
            for row in rows.get(name):
                if found := row["trimmed"].get(corpus):
                    values = [number(value_of(found, figure)) for figure in RECOGNITION]
                    lines.append([f"{corpus}: {row['name']}", *_cost([row]), str(found["clips"]), *values])
    return table(["", *_COST, "clips", *(f.title for f in RECOGNITION)], lines) if lines else MISSING


def native(rows: Rows, names: Sequence[str], of: Sequence[str]) -> str:
    """Share found of each of a set's own classes, where the model's merge several."""
    found = {name: rows.get(name)[:1] for name in names}
    lines: list[Cells] = []
    for corpus in of:
        own = {name: row[0]["sets"].get(corpus, {}).get("native_classes", {}) for name, row in found.items() if row}
        for label in dict.fromkeys(label for one in own.values() for label in one):
            told = next(one[label] for one in own.values() if label in one)
            shares = [number(own.get(name, {}).get(label, {}).get("found")) for name in names]
            lines.append([f"{corpus}: {label}", told["class"], str(told["instances"]), *shares])
    return table(["own class", "merged into", "instances", *names], lines) if lines else MISSING


def left_out(rows: Rows, names: Sequence[str], reference: str) -> str:
    """Rows that were measured on sets that they never saw, beside the reference on the same classes."""
    lines: list[Cells] = []
    for name in names:
        lines += _lines(name, rows.get(name), lambda row: _left_out_cells(row, rows.get(reference)), 5)
    found = [figures_of(row, "all") for name in names for row in rows.get(name)]
    if len(found) > 1:
        means = [number(mean([value_of(one, figure) for one in found])) for figure in FIGURES[:2]]
        lines.append(["**mean**", *[""] * (len(_COST) + 2), *means, ""])
    header = ["", *_COST, "set", "shared classes", "frame mAP", "segment mAP@.5", f"{reference}: frame mAP of these"]
    return table(header, lines)


def _left_out_cells(row: Row, reference: Sequence[Row]) -> Cells:
    corpora = list(row["sets"])
    shared = [len(row["sets"][one]["classes"]) for one in corpora]
    seen = [mean([_frame_map(other, one, row["sets"][one]["classes"]) for other in reference]) for one in corpora]
    figures = [number(value_of(figures_of(row, "all"), f)) for f in FIGURES[:2]]
    return [", ".join(corpora), ", ".join(map(str, shared)), *figures, number(mean(seen))]


def _frame_map(row: Row, corpus: str, classes: Mapping[str, Any]) -> float | None:
    known = row["sets"].get(corpus, {}).get("classes", {})
    return mean([known.get(name, {}).get("frame_ap") for name in classes])


def folds(recipes: Mapping[str, Row | None], of: Sequence[str]) -> str:
    """Recipes by what their folds say of people whom they did not see; a line for each look-ahead."""
    if not recipes:
        return MISSING
    lines: list[Cells] = []
    for name, recipe in recipes.items():
        if recipe is None:
            lines.append([name, *[_NONE] * 4, *_missing(len(FIGURES) + 1)])
            continue
        done = f"{len(recipe['folds'])} of {recipe['of']}"
        cost = [str(recipe["seed"]), str(recipe["steps"]), number(recipe["cpu_minutes"], 1), done]
        for look_ahead, found in recipe["look_aheads"].items():
            alarms = number((found["negatives"] or {}).get("false_alarms_per_hour"), 1)
            title = name if look_ahead == "0" else f"{name}, {look_ahead} frames ahead"
            for one in of:
                kind = "" if one == "all" else f" ({one})"
                lines.append([title + kind, *cost, *_figure_cells(found, one, FIGURES), alarms])
    return table(["", *_COST, "folds", *(f.title for f in FIGURES), "finals an hour on negatives"], lines)


def tail(recipes: Mapping[str, Row | None]) -> str:
    """Frequent and rare classes apart: halves of the classes of each set, by their share of the frames of training; means of
    the sets, at the recipe's first look-ahead."""
    lines: list[Cells] = []
    for name, recipe in recipes.items():
        if recipe is None:
            lines.append([name, *_missing(6)])
            continue
        found = next(iter(recipe["look_aheads"].values()))
        halves = [_halves(one["classes"], recipe["class_shares"]) for one in found["sets"].values()]
        keys = ("frame_accuracy", "frame_map", "frame_macro_f1")
        values = [value_of(figures_of(found, "all"), Figure("", (key,))) for key in keys]
        values += [mean([frequent for frequent, _ in halves]), mean([rare for _, rare in halves])]
        values.append(value_of(figures_of(found, "all"), FIGURES[2]))
        lines.append([name, *map(number, values)])
    header = ["", "frame accuracy", "frame mAP", "macro F1", "frame mAP, frequent half", "rare half", FIGURES[2].title]
    return table(header, lines) if lines else MISSING


def _halves(classes: Mapping[str, Any], shares: Mapping[str, float]) -> tuple[float | None, float | None]:
    """Frame mAP of the classes that were trained on most, and of the others; of an odd number the middle one is rare."""
    ranked = [classes[name]["frame_ap"] for name in sorted(classes, key=lambda name: -shares[name])]
    half = len(ranked) // 2
    return mean(ranked[:half]), mean(ranked[half:])


def robustness(results: Mapping[str, Mapping[str, Mapping[str, Any]]] | None) -> str:
    """Frame mAP and segment mAP@.5, means of the sets, of every condition and severity."""
    if results is None:
        return MISSING
    lines = [
        [condition, severity, *(number(found["mean"][key]) for key in ("frame_map", "segment_map_0.5", "f1_50"))]
        for condition, points in results.items()
        for severity, found in points.items()
    ]
    return table(["condition", "severity", "frame mAP", "segment mAP@.5", "F1@50"], lines)


def giveaways(results: Mapping[str, Mapping[str, Any]] | None) -> str:
    """What speed alone tells of action and background, and what tells bridges: areas under ROC curves."""
    if results is None:
        return MISSING
    lines: list[Cells] = []
    for corpus, kinds in results.items():
        for kind, found in kinds.items():
            speed, bridges = found["speed_only"], found.get("bridges", {})
            values = (
                speed["auc"],
                speed["ap"],
                *(bridges.get(key) for key in ("ratio", "detector", "bridges_of_background")),
            )
            lines.append([f"{corpus}, {kind}", *map(number, values)])
    header = [
        "",
        "speed alone: AUC",
        "AP",
        "bridges by acceleration / speed: AUC",
        "by a detector: AUC",
        "bridges of background",
    ]
    return table(header, lines)


def alarms(results: Mapping[str, Mapping[str, Mapping[str, Any]]] | None) -> str:
    """Every rule and threshold, a table for each kind of recording."""
    if results is None:
        return MISSING
    header = [
        "rule",
        "threshold",
        "false alarms",
        "an hour",
        "taken back",
        "actions told",
        "delay, s",
        "of the told, s",
        "F1@50",
    ]
    parts: list[str] = []
    for kind in next(iter(next(iter(results.values())).values())):
        lines = [
            [
                rule,
                threshold,
                str(found["false"]),
                number(found["false_per_hour"], 0),
                str(found["revoked"]),
                *(number(found[key]) for key in ("told", "delay", "delay_told", "f1_50")),
            ]
            for rule, points in results.items()
            for threshold, found in ((one, kinds[kind]) for one, kinds in points.items())
        ]
        parts += [f"**{kind.capitalize()}**", table(header, lines)]
    return "\n\n".join(parts)

"""Tables F and G: ratios of speed, memory and counts, with the paper's figures in their columns."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archsearch.reports.formats import MISSING, Table, as_markdown
from archsearch.reports.phrases import plural


def render(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any], out: Path) -> list[Path]:
    """Write throughput.json and throughput.md into ``out``."""
    paths = [out / "throughput.json", out / "throughput.md"]
    content = {"machine": dict(machine), "rows": [dict(row) for row in rows]}
    paths[0].write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    paths[1].write_text(as_markdown(throughput_table(rows, machine)), encoding="utf-8")
    return paths


def throughput_table(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> Table:
    """The rows of `archsearch.probes.throughput` as people read them."""
    paper = [row["paper"] or {} for row in rows]
    columns = {
        "Network": [row["network"] for row in rows],
        "Image": [f"{row['image_size']}²" for row in rows],
        "Batch": [str(row["batch"]) for row in rows],
        "#params": [_scaled(row["params"], 1e6, "M") for row in rows],
        "MACs": [_scaled(row["macs"], 1e9, "G") for row in rows],
        "Speed": [_ratio(row) for row in rows],
        "images/s": [_scaled(row["images_per_second"], 1, "", 3) for row in rows],
        "Peak memory": [_scaled(row["memory_bytes"], 1e9, "GB", 3) for row in rows],
        "Paper: #params": [str(p.get("params", MISSING)) for p in paper],
        "Paper: FLOPs": [str(p.get("flops", MISSING)) for p in paper],
        "Paper: images/s": [str(p.get("images_per_second", MISSING)) for p in paper],
        "Paper: speed": [_paper_ratio(row, rows) for row in rows],
        "Paper: memory": [str(p.get("memory", MISSING)) for p in paper],
        "Remarks": [_remarks(row) for row in rows],
    }
    columns = {k: v for k, v in columns.items() if any(text not in (MISSING, "") for text in v)}
    note = (
        f"Speed: images a second over those of {rows[0]['network']}, median (lowest to highest) of "
        f"{plural(machine['rounds'], 'round')} in which all take turns in one run; images/s are "
        f"of this run and this machine alone: {machine['device']}, {machine['precision']}, "
        f"{machine['threads']} threads. Memory: peak of a forward pass, weights included. "
        "Counts: by fvcore, multiply-adds as the paper counts; ours equal the closed form. "
        "The paper's figures are of an A100."
    )
    return Table.of(columns, rows, note=note, title="Throughput and memory")


def _scaled(value: float | None, by: float, unit: str, digits: int = 4) -> str:
    return MISSING if value is None else f"{value / by:.{digits}g} {unit}".rstrip()


def _ratio(row: Mapping[str, Any]) -> str:
    if row["ratio"] is None:
        return MISSING
    if row["ratio_low"] == row["ratio_high"]:
        return f"{row['ratio']:.2f}×"
    return f"{row['ratio']:.2f}× ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"


def _paper_ratio(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The paper's images a second over those of the network that ours are compared with."""
    first = next(r for r in rows if r["image_size"] == row["image_size"])
    if not (row["paper"] and first["paper"]):
        return MISSING
    return f"{row['paper']['images_per_second'] / first['paper']['images_per_second']:.2f}×"


def _remarks(row: Mapping[str, Any]) -> str:
    uncounted = f"not counted: {row['uncounted']}" if row["uncounted"] else ""
    return "; ".join(filter(None, (row["note"], uncounted)))

"""Speed ratios, memory and counts, as in Tables F and G; the paper's figures have own columns."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archsearch.core.numbers import size_text
from archsearch.reports.formats import MISSING, Table, as_markdown, number
from archsearch.reports.phrases import plural
from archsearch.storage.files import write_bytes


def render(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any], out: Path) -> list[Path]:
    """Write throughput.json and throughput.md into ``out``."""
    paths = [out / "throughput.json", out / "throughput.md"]
    content = {"machine": dict(machine), "rows": [dict(row) for row in rows]}
    write_bytes(paths[0], (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    write_bytes(paths[1], as_markdown(throughput_table(rows, machine)).encode())
    return paths


def throughput_table(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> Table:
    """Return the rows of `archsearch.probes.throughput` as a table."""
    paper = [row["paper"] or {} for row in rows]
    columns = {
        "Network": [row["network"] for row in rows],
        "Image": [size_text(row["image_size"]) for row in rows],
        "Batch": [str(row["batch"]) for row in rows],
        "#params": [number(row["params"], ".4g", 1e6, " M") for row in rows],
        "MACs": [number(row["macs"], ".4g", 1e9, " G") for row in rows],
        "Speed": [_ratio(row) for row in rows],
        "images/s": [number(row["images_per_second"], ".3g") for row in rows],
        "Peak memory": [number(row["memory_bytes"], ".3g", 1e9, " GB") for row in rows],
        "Paper: #params": [str(p.get("params", MISSING)) for p in paper],
        "Paper: FLOPs": [str(p.get("flops", MISSING)) for p in paper],
        "Paper: images/s": [str(p.get("images_per_second", MISSING)) for p in paper],
        "Paper: speed": [_paper_ratio(row, rows) for row in rows],
        "Paper: memory": [str(p.get("memory", MISSING)) for p in paper],
        "Remarks": [_remarks(row) for row in rows],
    }
    columns = {k: v for k, v in columns.items() if any(text not in (MISSING, "") for text in v)}
    note = (
        f"Speed: images per second over those of {rows[0]['network']}, median (lowest to highest) "
        f"of {plural(machine['rounds'], 'round')} in one run, in which all networks take turns; "
        f"images/s are of this run and machine only: {machine['device']}, {machine['precision']}, "
        f"{machine['threads']} threads. Memory: peak of a forward pass, with weights. Counts: by "
        "fvcore, multiply-adds as the paper counts; ours equal the closed form. The paper's "
        "figures are from an A100."
    )
    return Table.of(columns, rows, note=note, title="Throughput and memory")


def _ratio(row: Mapping[str, Any]) -> str:
    if row["ratio"] is None:
        return MISSING
    if row["ratio_low"] == row["ratio_high"]:
        return f"{row['ratio']:.2f}×"
    return f"{row['ratio']:.2f}× ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"


def _paper_ratio(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the paper's images per second over those of the first network."""
    first = next(r for r in rows if r["image_size"] == row["image_size"])
    if not (row["paper"] and first["paper"]):
        return MISSING
    return f"{row['paper']['images_per_second'] / first['paper']['images_per_second']:.2f}×"


def _remarks(row: Mapping[str, Any]) -> str:
    uncounted = f"not counted: {row['uncounted']}" if row["uncounted"] else ""
    return "; ".join(filter(None, (row["note"], uncounted)))

"""Studies in folders of a run: the timings and pilots of a comparison of families, the measured
latencies, and the classification run that networks are fine-tuned from."""

from pathlib import Path

from archsearch.core.plans import CLASSIFICATION_RUN, LATENCIES, PILOTS, STEP_TIMES

INNER = (LATENCIES, STEP_TIMES, *PILOTS, CLASSIFICATION_RUN)


def inner_folders(run: Path) -> list[Path]:
    """The folders of the studies inside a run that have begun, in order; of most runs none."""
    return [run / name for name in INNER if (run / name / "study.json").exists()]


def current_stage(run: Path) -> Path:
    """The run itself; while its pilots train, and it has no study yet, the last of them."""
    pilots = inner_folders(run)
    return pilots[-1] if pilots and not (run / "study.json").exists() else run

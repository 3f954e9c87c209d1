"""The timings and pilots of a comparison of families: studies in folders of the run."""

from pathlib import Path

from archsearch.core.plans import PILOTS, STEP_TIMES


def pilot_folders(run: Path) -> list[Path]:
    """The folders of the timings and pilots that have begun, in order; of most runs none."""
    return [run / name for name in (STEP_TIMES, *PILOTS) if (run / name / "study.json").exists()]


def current_stage(run: Path) -> Path:
    """The run itself; while its pilots train, and it has no study yet, the last of them."""
    pilots = pilot_folders(run)
    return pilots[-1] if pilots and not (run / "study.json").exists() else run

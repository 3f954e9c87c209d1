"""One export of `archsearch.trackers.live`: ``FOLDER NAME TRACKER TARGET SECONDS``."""

import os
import signal
import sys

from archsearch.trackers import export_to


def main() -> None:
    """Export, at low priority, and end after so many seconds in any case."""
    folder, name, tracker, target, seconds = sys.argv[1:]
    signal.alarm(int(seconds))
    os.nice(10)
    try:
        export_to(tracker, folder, target, name)
    except ValueError as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()

"""Run trials until each has a record: driver, runners, cost estimate and progress."""

"""The gate: two results compared, the committed baseline, and two revisions timed in turns."""

"""What the report, `explain` and the data card show, read from a finished run."""

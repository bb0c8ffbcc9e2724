"""Prefect flows: the schedulable shell over `lightadapt_data.run`.

The package holds no work of its own. Importing it, before Prefect is imported, sets these defaults
for this process and those it starts; what the environment already says wins.
"""

from __future__ import annotations

import os

DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The library's own log lines become log lines of the task that is running.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "lightadapt_data",
    # A thread of a library does not know its run: its lines stay on the console, without a warning.
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # Without PREFECT_API_URL, Prefect starts a temporary server; its 20 s are too few when cold.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}

for name, value in DEFAULTS.items():
    os.environ.setdefault(name, value)

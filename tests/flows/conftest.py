"""One Prefect server for all tests of the flows, with a home of its own, on loopback only."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Server:
    """A running server; clients are other processes, for Prefect rewires logging on import."""

    api: str
    environment: dict[str, str]

    def post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{self.api}/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def python(self, *args: str, seconds: float = 90) -> subprocess.CompletedProcess[str]:
        """Run a Python process against this server, from the repository's root."""
        return subprocess.run(
            [sys.executable, *args],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def prefect(self, *args: str) -> None:
        """Run a `prefect` command that must succeed."""
        done = self.python("-m", "prefect", *args)
        assert done.returncode == 0, done.stdout + done.stderr

    @staticmethod
    def until(fetch: Callable[[], Any], what: str, seconds: float = 60) -> Any:
        """Return the first true answer of `fetch`; fail when the deadline has passed."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            answer = fetch()
            if answer:
                return answer
            time.sleep(0.2)
        pytest.fail(f"no {what} in {seconds} s")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    api = f"http://127.0.0.1:{port}/api"
    outside = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    environment = {
        **outside,
        "DO_NOT_TRACK": "1",
        "NO_PROXY": "127.0.0.1",
        "PREFECT_API_URL": api,
        "PREFECT_CLI_COLORS": "false",
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false",
    }
    started = Server(api, environment)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    log = home / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=home,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def is_up() -> bool:
        assert process.poll() is None, f"the server has ended:\n{log.read_text()}"
        try:
            with urllib.request.urlopen(f"{api}/health", timeout=5) as answer:
                return bool(json.load(answer))
        except (urllib.error.URLError, OSError):
            return False

    try:
        started.until(is_up, "server", seconds=120)
        yield started
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and those it started: they are a group of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)

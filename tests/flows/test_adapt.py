import ast
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightadapt_data import recipe as recipes
from lightadapt_data import run

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("prefect") is None, reason="needs the extra 'flows'"
)

ROOT = Path(__file__).parents[2]

TINY = """
seed = 1
[ingest]
corpus = ["corpus-*.jsonl"]
target = ["target.txt"]
[embed]
method = "hashing"
[select]
method = "random"
keep = 4
"""
CALL = "import sys; from flows.adapt import adapt; adapt(sys.argv[1], sys.argv[2])"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Return a recipe of two corpus files, done in a moment."""
    for part in range(2):
        rows = [{"text": f"word{part} number{row} and some more text"} for row in range(20)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"corpus-{part}.jsonl").write_text(text)
    (tmp_path / "target.txt").write_text("some number and more\nanother text\n")
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def work_done(folder: Path) -> list[str]:
    """Return one line for every shard that was ever worked on in the folder."""
    return (folder / "work" / "events.jsonl").read_text().splitlines()


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return time and content of the files of all finished shards."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in (folder / "work").glob("*/*/**/*")
        if path.is_file()
    }


def flow_run(server, run_dir: Path) -> dict[str, Any]:
    """Return the flow run that worked in `run_dir`, with its tasks, once it is all recorded."""

    def fetch() -> dict[str, Any] | None:
        for found in server.post("flow_runs/filter", {}):
            if found["parameters"]["run_dir"] == str(run_dir) and found["end_time"]:
                of_flow = {"flow_runs": {"id": {"any_": [found["id"]]}}}
                tasks = server.post("task_runs/filter", of_flow)
                # The states of tasks reach the database some time after those of the flow.
                if all(task["end_time"] for task in tasks):
                    return {**found, "tasks": {task["name"]: task["state_name"] for task in tasks}}
        return None

    found: dict[str, Any] = server.until(fetch, "finished flow run")
    return found


def table(server, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the table that a flow run has left."""
    by_run = {"flow_run_id": {"any_": [found["id"]]}, "type": {"any_": ["table"]}}
    artifact = server.until(
        lambda: server.post("artifacts/filter", {"artifacts": by_run}), "table artifact"
    )[0]
    data = artifact["data"]
    rows: list[dict[str, Any]] = json.loads(data) if isinstance(data, str) else data
    return rows


def test_a_flow_does_nothing_again_that_a_run_has_done(server, tiny: Path):
    folder = tiny.parent / "out"
    reports = run.run_stages(recipes.load(tiny), folder)
    worked, before = work_done(folder), files(folder)
    done = server.python("-c", CALL, str(tiny), str(folder))
    assert done.returncode == 0, done.stderr
    assert (work_done(folder), files(folder)) == (worked, before)
    found = flow_run(server, folder)
    assert found["tasks"] == {report.stage: "Cached" for report in reports}
    assert [row["shards done"] for row in table(server, found)] == [0] * len(reports)


def test_a_run_does_nothing_again_that_a_flow_has_done(server, tiny: Path):
    folder = tiny.parent / "out"
    done = server.python("-c", CALL, str(tiny), str(folder))
    assert done.returncode == 0, done.stderr
    worked, before = work_done(folder), files(folder)
    reports = run.run_stages(recipes.load(tiny), folder)
    assert (work_done(folder), files(folder)) == (worked, before)
    assert all(report.is_hit for report in reports)

    found = flow_run(server, folder)
    assert found["tasks"] == {report.stage: "Completed" for report in reports}
    rows = table(server, found)
    assert [row["stage"] for row in rows] == [report.stage for report in reports]
    assert [row["shards done"] for row in rows] == [report.n_shards for report in reports]
    assert [row["rows out"] for row in rows] == [report.rows_out for report in reports]
    of_flow = {"logs": {"flow_run_id": {"any_": [found["id"]]}}}

    def library_lines() -> list[str]:
        lines = server.post("logs/filter", of_flow)
        return [line["message"] for line in lines if line["name"] == "lightadapt_data.run"]

    assert "rows in" in " ".join(server.until(library_lines, "log line of the library"))


def test_the_librarys_error_is_the_failure_message_of_the_flow(server, tiny: Path):
    tiny.write_text(TINY.replace("target.txt", "missing.txt"))
    with pytest.raises(run.InputError) as error:
        run.run_stages(recipes.load(tiny), tiny.parent / "unused")
    folder = tiny.parent / "out"
    assert server.python("-c", CALL, str(tiny), str(folder)).returncode == 1
    found = flow_run(server, folder)
    assert found["state_name"] == "Failed"
    assert str(error.value) in found["state"]["message"]


def test_prefect_yaml_names_what_is_there():
    (deployment,) = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    path, name = deployment["entrypoint"].split(":")
    functions = {
        node.name: {arg.arg for arg in node.args.args}
        for node in ast.parse((ROOT / path).read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    assert set(deployment["parameters"]) <= functions[name]
    assert recipes.load(ROOT / deployment["parameters"]["recipe"]).settings
    assert deployment["work_pool"]["name"]


def test_a_scheduled_run_of_the_deployment_completes(server, tiny: Path):
    content = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    (deployment,) = content["deployments"]
    (cron,) = deployment["schedules"]
    folder = tiny.parent / "out"
    # The shipped deployment, on a small recipe in two processes, and sooner than at night.
    deployment["parameters"] = {"recipe": str(tiny), "run_dir": str(folder), "workers": 2}
    deployment["schedules"].append({"interval": 10})
    copy = tiny.parent / "prefect.yaml"
    copy.write_text(yaml.safe_dump(content))
    pool = deployment["work_pool"]["name"]

    server.prefect("work-pool", "create", "--type", "process", pool)
    server.prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(copy))
    (deployed,) = server.post("deployments/filter", {})
    schedules = [entry["schedule"] for entry in deployed["schedules"]]
    assert cron["cron"] in [schedule.get("cron") for schedule in schedules]

    of_deployment = {"deployments": {"id": {"any_": [deployed["id"]]}}}
    server.until(lambda: server.post("flow_runs/filter", of_deployment), "scheduled run")
    once = ("--run-once", "--limit", "1", "--prefetch-seconds", "60")
    server.prefect("worker", "start", "--pool", pool, *once)
    found = flow_run(server, folder)
    assert found["state_name"] == "Completed", found["state"]["message"]
    assert found["auto_scheduled"]
    assert found["deployment_id"] == deployed["id"]
    assert set(found["tasks"]) == set(recipes.load(tiny).settings)
    assert all(report.is_hit for report in run.run_stages(recipes.load(tiny), folder))

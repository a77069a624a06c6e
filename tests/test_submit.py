"""`flowgauge submit --slurm`: scripts of job arrays, run here by bash with stand-ins of SLURM."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import typer
from benchmarks.execution.submission import slurm_seconds
from typer.testing import CliRunner

from benchmarks.cli.app import app
from benchmarks.execution import suite
from benchmarks.execution.plan import Shard

RUN = typer.main.get_command(app).commands["run"]
ODD = 'it\'s "one" $HOME 100%'
cli = CliRunner()


def submit(out: Path, *arguments: str) -> list[str]:
    """The lines that the command prints."""
    result = cli.invoke(app, ["submit", "smoke", "--out", str(out), *arguments])
    assert result.exit_code == 0, result.stderr
    return result.stdout.splitlines()


def scripts(out: Path) -> list[Path]:
    return sorted((out / "slurm").iterdir())


def start(script: Path, task: int, **environment: str) -> subprocess.Popen[str]:
    """Start the script of an array as SLURM does, for one of its tasks."""
    given = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_JOB_ID": "7", **environment}
    return subprocess.Popen(["bash", str(script)], env={**os.environ, **given}, text=True)


def option(script: Path, name: str) -> str | None:
    """The value of an option in a script's head."""
    match = re.search(rf"^#SBATCH --{name}=(.*)$", script.read_text(), re.M)
    return match[1] if match else None


def test_every_task_runs_once_in_arrays_below_the_limit(tmp_path, commands):
    submit(tmp_path, "--slurm", "--tasks", "5")
    numbers = defaultdict(list)
    for script in scripts(tmp_path):
        last = int(option(script, "array").removeprefix("1-"))
        assert last < 4
        for task in range(1, last + 1):
            assert start(script, task).wait() == 0
            values = RUN.make_context("run", commands.calls("flowgauge")[-1][1:]).params
            numbers[values["phase"]].append(values["shard"])
        assert ("--exclusive" in script.read_text()) == (values["phase"] == "alone")
    shards = [f"{number}/5" for number in range(1, 6)]
    assert numbers == {"beside": shards, "alone": shards}
    cases = suite.read("smoke").cases()
    keys = [case.key for text in shards for case in Shard.of(text).part(cases)]
    assert sorted(keys) == sorted(case.key for case in cases)


def test_options_of_the_suite_reach_the_tasks_as_they_are(tmp_path, commands, monkeypatch):
    folder = tmp_path / ODD
    (folder / "data sets").mkdir(parents=True)
    monkeypatch.chdir(folder)
    Path("my flow's.py").write_text("import flows\n")
    Path("my data.csv").write_text("\n".join(f"{n % 17},{n % 23}" for n in range(400)))
    given = {
        "overrides": ["cost.dims=[2, 3]", 'about="it\'s $HOME"'],
        "study": ["cost", "density"],
        "plugin": [Path("my flow's.py")],
        "data": ["my data.csv", "8gaussians"],
        "data_root": Path("data sets"),
        "device": "cuda",
        "threads": 3,
        "out": Path("out put"),
    }
    flags = {"overrides": "-s", "data_root": "--data-root"}
    arguments = ["run", "smoke"]
    for name, value in given.items():
        for one in value if isinstance(value, list) else [value]:
            arguments += [flags.get(name, f"--{name}"), str(one)]
    result = cli.invoke(app, ["submit", *arguments[1:], "--slurm", "--jobs", "2"])
    assert result.exit_code == 0, result.stderr
    script = scripts(folder / "out put")[-1]
    assert start(script, 1).wait() == 0
    (call,) = commands.calls("flowgauge")
    values = RUN.make_context("run", call[1:]).params
    assert {name: values[name] for name in given} == given
    assert values["suite"] == "smoke"
    assert option(script, "cpus-per-task") == "6"


@pytest.mark.parametrize(
    "linter", [["bash", "-n"], ["shellcheck", "-S", "warning"]], ids=lambda command: command[0]
)
def test_scripts_are_sound(tmp_path, commands, linter):
    if shutil.which(linter[0]) is None:
        pytest.skip(f"no {linter[0]} here")
    options = ["--partition", "long jobs", "--gres", "gpu:1", "--time", "1-12", "--at-most", "3"]
    submit(tmp_path / ODD, "--slurm", *options)
    for script in scripts(tmp_path / ODD):
        subprocess.run([*linter, str(script)], check=True)
        assert option(script, "partition") == "'long jobs'"
        assert option(script, "time") == "1-12"
        assert option(script, "array").endswith("%3")
        assert str(tmp_path) in option(script, "output")


@pytest.mark.parametrize("status", [0, 1, 75])
def test_a_task_that_was_stopped_is_queued_again(tmp_path, commands, status):
    submit(tmp_path, "--slurm")
    with start(scripts(tmp_path)[0], 2, STATUS=str(status)) as task:
        assert task.wait() == status
    requeued = [call for call in commands.calls("scontrol") if call[0] == "requeue"]
    assert requeued == ([["requeue", "7_2"]] if status == 75 else [])


def test_the_signal_before_the_end_reaches_the_run(tmp_path, commands):
    commands.add(
        "flowgauge",
        f'trap "exit 75" USR1\nmkfifo "{tmp_path}/never"\necho >"{tmp_path}/begun"\n'
        f'read <>"{tmp_path}/never"',
    )
    os.mkfifo(tmp_path / "begun")
    submit(tmp_path / "out", "--slurm")
    with start(scripts(tmp_path / "out")[0], 1) as task:
        (tmp_path / "begun").read_text()  # until the run is there
        task.send_signal(signal.SIGUSR1)
        assert task.wait() == 75
    assert commands.calls("scontrol")[-1] == ["requeue", "7_1"]


@pytest.mark.parametrize("now", [False, True])
def test_what_runs_alone_is_submitted_after_all_else(tmp_path, commands, now):
    out = tmp_path / ODD
    lines = submit(out, "--slurm", "--tasks", "4", *(["--now"] if now else []))
    if not now:
        commands.add("sbatch", 'echo "$((100 + $(wc -l <"$log")))"')
        subprocess.run(["bash", "-euc", "\n".join(lines)], check=True)
    paths = [out / "slurm" / f"{name}.sh" for name in ("beside-1", "beside-2", "alone-1")]
    paths.append(out / "slurm" / "alone-2.sh")
    calls = commands.calls("sbatch")
    assert [call[-1] for call in calls] == [str(path) for path in paths]
    after = [[word for word in call if "dependency" in word] for call in calls]
    assert after == [[], [], *[["--dependency=afterany:101:102"]] * 2]


def test_a_folder_can_be_watched_before_anything_ran(tmp_path, commands):
    submit(tmp_path, "--slurm")
    assert cli.invoke(app, ["status", str(tmp_path)]).exit_code == 1
    assert [path.stem for path in scripts(tmp_path)] == ["alone-1", "beside-1"]


def test_a_login_node_without_a_gpu_plans_for_cuda(tmp_path, commands, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch._C._cuda_init", lambda: pytest.fail("CUDA is used"), raising=False)
    submit(tmp_path, "--slurm", "--device", "cuda", "--jobs", "2")
    for script in scripts(tmp_path):
        assert option(script, "gres") == "gpu:2"
        assert "--device cuda" in script.read_text()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("1:30", 90), ("2:00:05", 7205), ("1-12", 129600), ("1-0:30", 88200)],
)
def test_times_are_read_as_slurm_does(text, seconds):
    assert slurm_seconds(text) == seconds


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["--slurm", "--kubernetes"]),
        (["--slurm", "--kubernetes"], ["--slurm", "--kubernetes"]),
        (["--slurm", "--time", "soon"], ["'soon'", "HH:MM:SS"]),
        (["--slurm", "--time", "0:00"], ["'0:00'"]),
        (["--slurm", "--time", "5"], ["--time 5", "10 minutes"]),
        (["--slurm", "--image", "i"], ["--image", "--kubernetes"]),
        (["--slurm", "--now"], ["sbatch", "--now"]),
        (["--kubernetes"], ["--image", "--volume"]),
        (["--kubernetes", "--image", "i"], ["--volume"]),
        (["--kubernetes", "--image", "i", "--volume", "v", "--now"], ["--now", "--slurm"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_wrong_usage_is_told_in_one_line(tmp_path, monkeypatch, arguments, expected):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = cli.invoke(app, ["submit", "smoke", "--out", str(tmp_path / "out"), *arguments])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert all(text in result.stderr for text in expected)


def test_what_sbatch_refuses_is_told(tmp_path, commands):
    commands.add("sbatch", 'echo "invalid partition" >&2; exit 1')
    result = cli.invoke(app, ["submit", "smoke", "--out", str(tmp_path), "--slurm", "--now"])
    assert result.exit_code == 2
    assert "invalid partition" in result.stderr
    assert "beside-1.sh" in result.stderr

"""`flowgauge submit --kubernetes`: a manifest that is valid, whose pods cover the plan."""

from __future__ import annotations

import os
import re
import subprocess

import kubernetes_validate
import pytest
import typer
import yaml
from typer.testing import CliRunner

from benchmarks.cli.app import app
from benchmarks.execution import suite
from benchmarks.execution.plan import tasks
from documents import ROOT, blocks

LATEST = kubernetes_validate.latest_version()
LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"  # RFC 1123, 63 letters at most
RUN = typer.main.get_command(app).commands["run"]
cli = CliRunner()


def manifest(tmp_path, *arguments: str, name: str = "smoke"):
    """The manifest for a suite, and its one container."""
    target = ["--image", "registry.example/flow gauge:1", "--volume", "claim", *arguments]
    out = ["--out", str(tmp_path / "out put")]
    result = cli.invoke(app, ["submit", name, "--kubernetes", *target, *out])
    assert result.exit_code == 0, result.stderr
    job = yaml.safe_load((tmp_path / "out put" / "kubernetes.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return job, container


@pytest.mark.parametrize("options", [[], ["--device", "cuda", "--at-most", "2", "--tasks", "9"]])
def test_a_manifest_is_valid_against_the_schema_of_kubernetes(tmp_path, options):
    job, _ = manifest(tmp_path, *options)
    assert job["apiVersion"] == "batch/v1"
    kubernetes_validate.validate(job, LATEST, strict=True)


def test_the_manifests_of_the_page_are_valid():
    texts = [b.text for b in blocks(ROOT / "docs" / "kubernetes.md") if b.language == "yaml"]
    parts = [part for text in texts for part in yaml.safe_load_all(text)]
    assert [part["kind"] for part in parts] == ["PersistentVolumeClaim", "Pod"]
    for part in parts:
        kubernetes_validate.validate(part, LATEST, strict=True)


@pytest.mark.parametrize("stem", ["smoke", "_Ünder score.", "long-" * 30])
def test_names_are_those_of_hosts(tmp_path, stem):
    text = 'about = "x"\n[[studies]]\nstudy = "cost"\nflows = ["realnvp"]\ndims = [2]\n'
    path = tmp_path / f"{stem}.toml"
    path.write_text(text)
    job, container = manifest(tmp_path, name=str(path))
    names = [job["metadata"]["name"], container["name"]]
    for name in [*names, f"{names[0]}-{job['spec']['completions'] - 1}"]:
        assert re.fullmatch(LABEL, name)
        assert len(name) <= 63


def test_the_pods_cover_the_plan_once(tmp_path, commands):
    job, container = manifest(tmp_path, "--tasks", "5", "-s", 'about="it\'s $HOME"')
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 5, 5)
    for index in range(5):
        environment = {**os.environ, "JOB_COMPLETION_INDEX": str(index)}
        subprocess.run([*container["command"], *container["args"]], env=environment, check=True)
    calls = [RUN.make_context("run", call[1:]).params for call in commands.calls("flowgauge")]
    assert [call["shard"] for call in calls] == [f"{number}/5" for number in range(1, 6)]
    for call in calls:
        assert call["suite"] == "smoke"
        assert call["overrides"] == ['about="it\'s $HOME"']
        assert str(call["out"]) == "/results/out put"
        assert call["phase"] == "both"
    (mount,) = container["volumeMounts"]
    (volume,) = spec["template"]["spec"]["volumes"]
    assert mount["mountPath"] == "/results"
    assert mount["name"] == volume["name"]
    assert volume["persistentVolumeClaim"] == {"claimName": "claim"}


def test_a_failed_pod_stops_no_other(tmp_path):
    job, _ = manifest(tmp_path, "--tasks", "4")
    spec = job["spec"]
    assert spec["maxFailedIndexes"] == spec["completions"]
    assert spec["backoffLimitPerIndex"] > 0
    actions = [rule["action"] for rule in spec["podFailurePolicy"]["rules"]]
    assert "FailJob" not in actions
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_no_more_pods_than_blocks(tmp_path):
    job, _ = manifest(tmp_path, "--tasks", "9999")
    assert job["spec"]["completions"] == len(tasks(suite.read("smoke").cases()))


def test_each_worker_has_a_gpu(tmp_path):
    _, container = manifest(tmp_path, "--device", "cuda", "--jobs", "2", "--threads", "3")
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert container["resources"]["requests"] == {"cpu": "6"}

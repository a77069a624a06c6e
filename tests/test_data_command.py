"""`flowgauge data`: fetch, verify and describe, of a plug-in's set too."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from benchmarks import datasets
from benchmarks.cli.app import app
from file_server import npy, tar

cli = CliRunner()


def test_a_plug_in_of_one_file_is_downloaded(server, tmp_path, monkeypatch) -> None:
    """Its addresses, its checksum and its reader stand beside its loader."""
    server.content = tar(("numbers.npy", npy(np.random.default_rng(0).normal(size=(300, 2)))))
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        f"""
import numpy as np
import torch
from benchmarks.datasets import Dataset, register
from benchmarks.datasets.disk import Absent, Source, data_root

def files(name, root=None):
    path = data_root(root) / "mine" / "numbers.npy"
    if not path.is_file():
        raise Absent(str(path))
    return (path,)

def sources(name, original=False):
    return (Source({server.url!r}, None, (("mine/numbers.npy", "numbers.npy"),)),)

@register("mine")
def load(root, seed):
    x = torch.from_numpy(np.load(files("mine", root)[0]))
    return Dataset("mine", 2, x[:200], x[200:250], x[250:], "raw units", "made up")
"""
    )
    root = tmp_path / "root"
    with datasets.registry.temporary():
        place = ["mine", "--plugin", str(plugin), "--data-root", str(root)]
        fetched = cli.invoke(app, ["data", "fetch", *place])
        assert "mine" in datasets.downloadable()
        assert fetched.exit_code == 0, fetched.output
        verified = cli.invoke(app, ["data", "verify", *place])
        assert verified.exit_code == 0
        assert "300 rows of 2 columns; files as fetched" in verified.stdout


def test_the_command_fetches_and_verifies(tmp_path: Path) -> None:
    numbers = npy(np.random.default_rng(0).normal(size=(500, 43)))
    content = tar(("data/miniboone/data.npy", numbers))
    archive, root = tmp_path / "a.tar.gz", tmp_path / "root"
    archive.write_bytes(content)
    place = ["--data-root", str(root)]
    arguments = ["data", "fetch", "miniboone", "--from", str(archive), *place]
    refused = cli.invoke(app, arguments)
    assert refused.exit_code == 1
    assert "does not match" in refused.stderr
    assert "--checksum" in refused.stderr
    fetched = cli.invoke(app, [*arguments, "--checksum", hashlib.sha256(content).hexdigest()])
    assert fetched.exit_code == 0, fetched.output
    assert "already in" in cli.invoke(app, arguments).stdout
    listed = cli.invoke(app, ["data", "list", *place]).stdout
    assert "absent: flowgauge data fetch gas" in listed
    verified = cli.invoke(app, ["data", "verify", *place])
    assert verified.exit_code == 1
    assert "NOT the published set: 43 columns and 405 / 45 / 50 rows" in verified.stdout
    assert "files as fetched" in verified.stdout
    assert "gas" not in verified.stdout
    (root / "miniboone/data.npy").write_bytes(numbers[:1000])
    again = cli.invoke(app, ["data", "verify", "miniboone", "gas", *place])
    assert again.exit_code == 1
    assert "Expected (500, 43)" in again.stdout
    assert "put gas/ethylene_CO.parquet, or gas/ethylene_CO.txt there" in again.stdout


def test_the_command_describes_a_set() -> None:
    result = cli.invoke(app, ["data", "info", "gaussian_2"])
    assert result.exit_code == 0
    assert "entropy" in result.stdout
    assert "50,000 rows" in result.stdout

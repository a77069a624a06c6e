"""The command ``flowgauge cost``: the sizes that it reads, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.cli.app import app
from benchmarks.cli.run import numbers

PLUGIN = """
import flows
from nflows.transforms import LULinear

@flows.register("one_linear", uses=())
def one_linear(dim):
    \"\"\"A linear layer.\"\"\"
    return LULinear(dim)
"""


def test_numbers_of_the_command() -> None:
    """A span doubles and always has its end; a list is itself; all else is refused by name."""
    assert numbers("2..16", "dim") == [2, 4, 8, 16]
    assert numbers("3..20", "dim") == [3, 6, 12, 20]
    assert numbers("3,10,63", "dim") == [3, 10, 63]
    for wrong in ("2..2", "0..4", "", "2...4", "2,,3", "0,1", "a"):
        with pytest.raises(ValueError, match="cannot read --hidden"):
            numbers(wrong, "hidden")


def test_a_file_stands_for_the_flows_that_it_registers(tmp_path: Path) -> None:
    """It is measured as any other, in the worker too."""
    file, out = tmp_path / "linear_flow.py", tmp_path / "out"
    file.write_text(PLUGIN)
    arguments = ["cost", str(file), "--dim", "2,3", "--batch", "4,8", "--seconds", "0"]
    result = CliRunner().invoke(app, [*arguments, "--counted-dim", "64", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "6 done, 0 not" in result.output

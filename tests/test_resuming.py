"""Downloads from a local server that breaks off: resumed, and begun anew where they must be."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.datasets import resuming
from file_server import CONTENT, Server


def download(server: Server, folder: Path, checked: bool = True) -> bytes:
    target = folder / "whole"
    resuming.Resuming(folder / "part", checked=checked)(server.url, target, None)
    assert not (folder / "part").exists()
    assert not (folder / "part.version").exists()
    return target.read_bytes()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(CONTENT)), max_size=4), tag=st.sampled_from(['"v"', ""]))
def test_wherever_it_breaks_off_little_is_sent_twice(server, tmp_path, cuts, tag) -> None:
    server.cuts, server.sent, server.tag = list(cuts), 0, tag
    assert download(server, tmp_path) == CONTENT
    assert server.sent - len(CONTENT) < max(1, resuming.CHUNK * len(cuts))


def test_a_second_process_goes_on_where_the_first_was_stopped(server, tmp_path) -> None:
    server.cuts = [40_000] + [0] * resuming.TRIES
    with pytest.raises(ConnectionError, match="gave up after 32,768 bytes, which are kept"):
        download(server, tmp_path)
    server.cuts, server.requests = [], []
    assert download(server, tmp_path) == CONTENT
    assert server.requests == ["bytes=32768-"]


@pytest.mark.parametrize("change", ["version", "no ranges", "unknown", "shorter"])
def test_what_cannot_be_continued_begins_anew(change, server, tmp_path) -> None:
    (tmp_path / "part").write_bytes(b"x" * 40_000)
    (tmp_path / "part.version").write_text('"v0"' if change == "version" else '"v1"')
    server.ranges = change != "no ranges"
    if change == "unknown":
        (tmp_path / "part.version").unlink()
    if change == "shorter":
        server.content = CONTENT[:20_000]
    assert download(server, tmp_path, checked=False) == server.content


def test_a_whole_part_is_not_fetched_again(server, tmp_path) -> None:
    (tmp_path / "part").write_bytes(CONTENT)
    assert download(server, tmp_path) == CONTENT
    assert server.sent == 0

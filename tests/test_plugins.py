"""Members and plug-ins: registries, entry points, files that records depend on."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

import pandas as pd
import pytest
from torch.distributions import Distribution

import flows
from benchmarks.core.naming import STAR, series
from benchmarks.execution.plan import tasks
from benchmarks.execution.versions import commit_of, plugin_files
from benchmarks.plotting.draw import looks
from benchmarks.studies.contender import Trainee, expanded
from benchmarks.studies.density.tables import tables as density_tables
from claim_examples import densities
from documents import ROOT
from flows.continuous.trace import TRACES, Trace
from flows.plugins import load_plugin
from flows.registry import SIZES, Member, Registry, needed
from repositories import commit, write_files
from runs import small
from variants import options_of


@pytest.mark.parametrize("name", flows.own())
def test_options_are_refused_with_those_that_exist(name):
    member = flows.members[name]
    with pytest.raises(ValueError, match=f"{name!r}.*'hiden'") as caught:
        flows.build(name, 2, hiden=3)
    assert all(option in str(caught.value) for option in member.defaults)
    for size in SIZES:
        if size not in member.uses:
            with pytest.raises(ValueError, match=f"{name!r}.*{size!r}"):
                flows.build(name, 2, **{size: 1})
            assert size not in member.defaults


@pytest.mark.parametrize("name", flows.own())
@pytest.mark.parametrize("value", [0, -1, 2.0, "3", True, None])
def test_sizes_are_whole_numbers_from_one(name, value):
    for size in ("dim", *(s for s in flows.members[name].uses if s != "context_dim")):
        sizes = {"dim": 2, size: value}
        with pytest.raises(ValueError, match=f"{name!r}.*{size} .*{value!r}"):
            flows.build(name, **sizes)
    if value != 0 and "context_dim" in flows.members[name].uses:
        with pytest.raises(ValueError, match=f"context_dim .*{value!r}"):
            flows.build(name, 2, context_dim=value)


@pytest.mark.parametrize("name", flows.own())
def test_choices_of_an_option_are_listed(name):
    for option, hint, default in options_of(name):
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        choices = TRACES if isinstance(default, Trace) else choices
        if choices:
            with pytest.raises(ValueError, match="'nope'") as caught:
                flows.build(name, 2, **{option: "nope"})
            assert all(choice in str(caught.value) for choice in choices)


def test_register_checks_the_signature():
    with pytest.raises(TypeError, match=r"'odd'.*\['depth'\].*\['hidden'\]"):
        flows.register("odd", uses=("hidden", "depth"))(lambda dim, *, hidden=3: None)
    with pytest.raises(TypeError, match="width"):
        flows.register("odd", uses=("width",))(lambda dim, *, width=3: None)
    assert "odd" not in flows.names()


@pytest.mark.parametrize(
    ("module", "remedy"),
    [("flows.discrete.needy", r"'flowgauge\[no_such_package\]'"), ("theirs", "no_such_package")],
)
def test_a_member_without_its_package_is_not_listed_and_says_what_to_install(module, remedy):
    """Ours by an extra of this distribution, others' by the package's name."""
    registry: Registry[int] = Registry("flow", ("flows.discrete",))
    registry.add("plain", 1, module)
    registry.add("needy", 2, module, requires="no_such_package")
    assert list(registry) == ["plain"]
    fault = f"package 'no_such_package', which is not installed: pip install {remedy}$"
    for look in (registry.__getitem__, registry.module_of):
        with pytest.raises(ValueError, match=f"^flow 'needy' needs the {fault}"):
            look("needy")
    with pytest.raises(ValueError, match=r"unknown flow 'neddy'; choose from: plain$"):
        registry["neddy"]


def test_a_library_is_usable_or_says_in_one_line_why_not(tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("raise AttributeError('gone\\nfor ever')")
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry[int] = Registry("flow", ("flows.discrete",))
    for name, package in (("a", "wave"), ("b", "broken_library")):
        registry.add(name, 1, "flows.discrete.needy", requires=package)
    faults = {library.members: library.fault for library in registry.libraries()}
    assert faults == {("a",): "", ("b",): "cannot be imported: AttributeError: gone"}
    member = Member("b", lambda dim: None, (), library="broken_library")
    with pytest.raises(ValueError, match=r"'b' needs the package 'broken_library', which .* gone$"):
        member.construct(2, {})


def test_a_library_changes_no_setting_as_it_is_imported(tmp_path, monkeypatch):
    """Its flows are called in one state, whatever was measured before its import."""
    text = "from torch.distributions import Distribution\nDistribution._validate_args = None\n"
    (tmp_path / "careless_library.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    before = Distribution._validate_args
    Member("c", lambda dim: None, (), library="careless_library").construct(2, {})
    assert "careless_library" in sys.modules
    assert Distribution._validate_args is before


PLUGIN = '''
"""A plug-in with one flow."""
import flows
from flows.discrete.nflows_compat import ActNorm

@flows.register("{name}", uses=("layers",))
def scaled(dim, *, layers=1, power=2):
    """Scales columns, and nothing else."""
    return ActNorm(dim)
'''


def _plugin(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_process_needs_the_plug_ins_of_its_members_and_those_without_any(tmp_path):
    """One flow's file does nothing to another's numbers; a file without members is for all."""
    texts = {"one": PLUGIN.format(name="one_flow"), "two": PLUGIN.format(name="two"), "bare": ""}
    one, two, bare = (_plugin(tmp_path / f"{stem}.py", text) for stem, text in texts.items())
    for path in (one, two, bare):
        load_plugin(path)
    assert [name for name in needed({"realnvp"}) if str(tmp_path) in name] == [str(bare)]
    assert [name for name in needed({"two"}) if str(tmp_path) in name] == [str(two), str(bare)]
    cases = small({"flow": "realnvp"}, {"flow": "one_flow"}, {"flow": "two"}).cases()
    listed = tasks(cases)
    assert len(listed) == 6
    assert all(len({case.flow for case in task.cases}) == 1 for task in listed)
    assert [task.plugins for task in listed] == sorted(task.plugins for task in listed)


def test_a_plug_in_imports_what_lies_beside_it(tmp_path):
    """And no module of its folder takes the place of one that is installed."""
    _plugin(tmp_path / "beside_the_plug_in.py", "NAME = 'imports_beside'")
    _plugin(tmp_path / "flows.py", "raise RuntimeError")
    text = "from beside_the_plug_in import NAME\n" + PLUGIN.replace('"{name}"', "NAME")
    load_plugin(_plugin(tmp_path / "imports.py", text))
    assert flows.members.module_of("imports_beside").endswith("imports")
    assert str(tmp_path) not in sys.path  # where new processes look for flows


def test_a_plug_in_cannot_take_a_members_name(tmp_path):
    path = _plugin(tmp_path / "fake.py", PLUGIN.format(name="glow"))
    with pytest.raises(ValueError, match=r"'glow' .* registered by flows\.discrete\.coupling"):
        load_plugin(path)
    assert flows.members.module_of("glow") == "flows.discrete.coupling"


def test_two_plug_ins_of_one_name_are_told_apart(tmp_path):
    path = _plugin(tmp_path / "a" / "mine.py", PLUGIN.format(name="mine"))
    assert load_plugin(path) is load_plugin(str(path))
    assert flows.members["mine"].description == "Scales columns, and nothing else."
    with pytest.raises(ValueError, match=r"has the name of .*mine\.py.*rename"):
        load_plugin(_plugin(tmp_path / "b" / "mine.py", PLUGIN.format(name="mine")))


@pytest.mark.parametrize(
    "text", ["def broken(:\n", "import no_such_module_at_all\n", "raise RuntimeError('a\\nb')\n"]
)
def test_a_broken_plug_in_errs_in_one_line(tmp_path, text):
    path = _plugin(tmp_path / "broken.py", text)
    fault = r"broken\.py' cannot be imported: line 1: \w+Error: "
    with pytest.raises(ValueError, match=fault) as caught:
        load_plugin(path)
    assert "\n" not in str(caught.value)
    _plugin(path, PLUGIN.format(name="mended"))
    importlib.invalidate_caches()
    load_plugin(path)
    assert "mended" in flows.names()


def test_a_module_that_cannot_be_imported_is_left_out(tmp_path, monkeypatch):
    """With one line, and the reason wherever a name is unknown."""
    texts = {"__init__.py": "", "one.py": "import no_such_module_at_all"}
    write_files(tmp_path / "some_members", texts)
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry[int] = Registry("thing", ("some_members",))
    with pytest.warns(UserWarning, match="left out: ModuleNotFoundError") as warned:
        assert list(registry) == []
    assert len(warned) == 1
    with pytest.raises(ValueError, match="left out: ModuleNotFoundError"):
        registry["any"]


MEMBERS = '''
"""A flow, a data set, a study of it, and a claim of the study."""

from functools import partial

from pydantic import BaseModel

import flows
from benchmarks.claims import Verdict, done, keys, outcome
from benchmarks.claims import register as claim
from benchmarks.core.study import Study
from benchmarks.core.study import register as study
from benchmarks.datasets import drawn, register
from benchmarks.datasets.analytic import gaussian_sample


rows = dict.fromkeys(("train", "val", "test"), 40)
gaussian = partial(gaussian_sample, 2)
register("their_gaussian")(drawn("their_gaussian", "A Gaussian", gaussian, rows=rows))
flows.register("their_flow", uses=())(lambda dim: flows.build("planar", dim))


@study
class Theirs(Study):
    """The mean of a data set."""

    name = "theirs"
    question = "Where is the middle?"
    Options = BaseModel


@claim(
    "their-claim",
    statement="The mean is positive.",
    criterion="Confirmed if it is.",
    studies=("theirs",),
    suite="quick",
    exhibits=(),
)
def judge(frame):
    rows = done(frame, "theirs", "test_ll")
    return Verdict(outcome([rows["test_ll"].mean() > 0]), "By one record.", keys(rows))
'''
POINTS = "".join(
    f"[flowgauge.{group}]\nbroken = no_such_module_of_theirs\ngood = their_members\n"
    for group in ("flows", "datasets", "studies", "claims")
)
CODE = """
import json, warnings
import flows

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from benchmarks import datasets
    from benchmarks.claims import claims
    from benchmarks.core.study import Common
    from benchmarks.core.study import registry as studies
    from benchmarks.execution.versions import dependencies, plugins_of

    study, shape = studies["theirs"], datasets.load("their_gaussian").train.shape
    flow = flows.members.module_of("their_flow")
    ids = [claim.id for claim in claims()]
from flows.plugins import load_plugin
from flows.registry import needed

case = Common().case(study=study.name, flow="maf", dim=2, dataset="their_gaussian", batch=1)
print(json.dumps({
    "claim": "their-claim" in ids,
    "flow": flow,
    "messages": [str(w.message) for w in caught if "no_such_module" in str(w.message)],
    "plugins": {kind: fact["file"] for kind, fact in plugins_of(case).items()},
    "files": list(dependencies(case).files),
    "needed": [needed(case.words), needed({"maf"})],
    "again": load_plugin("their_members.py").__name__,
    "rows": shape[0],
}))
"""


def test_entry_points_add_flows_data_sets_studies_and_claims(tmp_path):
    """Each is listed, its records name the module and its file, a broken one is a line.

    Its file as a plug-in is the same module.
    """
    about = "Metadata-Version: 2.1\nName: theirs\nVersion: 1\n"
    info = {"entry_points.txt": POINTS, "METADATA": about}
    write_files(tmp_path, {"their_members.py": MEMBERS})
    write_files(tmp_path / "theirs-1.dist-info", info)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, tmp_path)))}
    command = [sys.executable, "-c", CODE]
    facts = json.loads(subprocess.check_output(command, cwd=tmp_path, env=environment))
    messages = facts.pop("messages")
    assert len(messages) == 4
    assert all("\n" not in text and "left out" in text for text in messages)
    assert facts == {
        "claim": True, "rows": 40, "flow": "their_members", "again": "their_members",
        "plugins": {"data": "their_members.py", "study": "their_members.py"},
        "files": ["file their_members.py"], "needed": [["their_members"], []],
    }  # fmt: skip


def test_the_claims_of_a_file_are_asked_for_by_name(tmp_path):
    file = _plugin(tmp_path / "their_members.py", MEMBERS)
    command = ["claims", "results/slide", "--plugin", str(file), "--only", "their-claim"]
    line = [sys.executable, "-m", "benchmarks", *command, "--json"]
    (row,) = json.loads(subprocess.check_output(line, cwd=ROOT))
    assert (row["id"], row["verdict"]) == ("their-claim", "not_measured")


FILES = {
    "plug/mine.py": "import os, torch, beside, far.deep\nfrom importlib import import_module\n"
    'import flows\n\n@flows.register("mine_flow", uses=())\ndef make(dim):\n    '
    'import_module("late")\n',
    "plug/beside.py": "from sub import thing",
    "plug/sub/__init__.py": "",
    "plug/sub/thing.py": "from . import other",
    "plug/sub/other.py": "",
    "plug/late.py": "",
    "plug/unrelated.py": "",
    "work/far/__init__.py": "from .near import value",
    "work/far/near.py": "value = 1",
    "work/far/deep.py": "from far import near",
    "work/far/unused.py": "",
}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The module of a plug-in's file with helpers beside it and in a folder on the path."""
    write_files(tmp_path, FILES)
    for folder in ("plug", "work"):
        monkeypatch.syspath_prepend(tmp_path / folder)
    importlib.invalidate_caches()
    before = set(sys.modules)
    with flows.members.temporary():
        yield load_plugin(tmp_path / "plug" / "mine.py").__name__
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_every_file_of_its_own_counts_and_no_other(plugin, tmp_path):
    """Helpers beside it, in packages, imported late, and under development elsewhere."""
    before = plugin_files(plugin)
    unrelated = {"plug/unrelated.py", "work/far/unused.py"}
    assert len(before) == len(FILES) - len(unrelated)
    for name, text in FILES.items():
        path = tmp_path / name
        path.write_text(text + "\n# changed\n")
        assert (plugin_files(plugin) != before) == (name not in unrelated), name
        path.write_text(text)


def test_a_distribution_is_not_followed_into_others():
    """As if the library were a plug-in: its files, and none of what it needs."""
    files = plugin_files("nflows.transforms")
    assert {"file nflows/transforms/base.py", "file nflows/utils/torchutils.py"} <= set(files)
    assert all(name.startswith("file nflows/") for name in files)
    assert not plugin_files("flows.flow")


def test_the_packages_that_hold_a_module_count(tmp_path, monkeypatch):
    """Python runs them first, though the module imports nothing of them."""
    names = ("__init__.py", "inner/__init__.py", "inner/flow.py")
    write_files(tmp_path / "outer_of_mine", dict.fromkeys(names, ""))
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("outer_of_mine", "outer_of_mine.inner", "outer_of_mine.inner.flow"):
        monkeypatch.setitem(sys.modules, name, importlib.import_module(name))
    assert len(plugin_files("outer_of_mine.inner.flow")) == 3


def test_a_record_has_the_commit_and_whether_the_tree_was_dirty(plugin, tmp_path):
    assert commit_of(plugin) == {"file": "mine.py", "commit": ""}
    (tmp_path / ".gitignore").write_text("__pycache__\n")
    head = commit(tmp_path, "first")[:12]
    assert commit_of(plugin)["commit"] == head
    (tmp_path / "work" / "far" / "near.py").write_text("value = 2")
    assert commit_of(plugin)["commit"] == f"{head}-dirty"


def test_it_has_the_settings_of_its_peers(plugin):
    listed = [
        {"flow": "cnf", "updates": 7},
        {"flow": "maf", "options": {"layers": 2}},
        {"flow": "realnvp", "updates": 600, "training": {"learning_rate": 3e-3}},
        {"flow": "*", "updates": 50},
    ]
    trainees = {t.flow: t for t in expanded([Trainee.model_validate(part) for part in listed])}
    mine = trainees["mine_flow"]
    assert mine.updates == 600
    assert mine.training.model_dump(exclude_unset=True) == {"learning_rate": 3e-3}
    assert trainees["glow"].updates == 50


def test_it_is_marked_and_its_rank_is_stated():
    frame = densities({"maf": 1.0, "mine": 0.5, "glow": 0.0})
    frame = frame.assign(plugin=frame["flow"] == "mine", test_ll_se=0.01)
    assert set(series(frame)) == {"maf", f"{STAR} mine", "glow"}
    for table in density_tables(frame)[1:]:
        if "leads" in table.frame:
            assert f"{STAR} mine is 2 of 3 flows" in table.note
    assert set(series(pd.DataFrame(frame).drop(columns="plugin"))) == {"maf", "mine", "glow"}
    styles = looks(series(frame))
    own = styles.pop(f"{STAR} mine")["color"]
    assert own not in {style["color"] for style in styles.values()}

"""The pages of results say what the committed records say; `tox run -e docs` runs these."""

import re

import pytest
from findings import sentences
from pages import Documents

from documents import DOCS, ROOT, named


@pytest.fixture(scope="module")
def documents() -> Documents:
    return Documents()


def test_pages_of_results_are_those_of_the_records(documents: Documents) -> None:
    for page, text in documents.pages():
        assert page.read_text() == text, f"{named(page)} is not current: python docs/pages.py"
    figures = {path.name for path in (DOCS / "figures").iterdir()}
    assert figures == set(documents.shown), "python docs/pages.py"


@pytest.mark.parametrize("name", sentences)
def test_a_sentence_holds_and_has_at_most_three_numbers(documents: Documents, name: str) -> None:
    assert len(re.findall(r"\{\w+\}", sentences[name].text)) <= 3
    values, holds = sentences[name].numbers(documents)
    assert holds
    assert all(values.values())


def test_a_sentence_whose_sign_has_changed_is_refused() -> None:
    documents = Documents()
    run = documents.runs["ladder"]
    run.frame = run.frame.assign(test_ll=-run.frame["test_ll"])
    with pytest.raises(ValueError, match="no longer say"):
        documents.sentence("preprocessing")


def test_the_page_of_results_is_short_and_the_readme_has_its_findings(documents: Documents) -> None:
    page, readme = (DOCS / "results.md").read_text(), (ROOT / "README.md").read_text()
    assert len(page.splitlines()) <= 300
    for name in ("evaluations", "complexity", "preprocessing", "families", "tables"):
        text = " ".join(documents.sentence(name).split())
        assert text in page
        assert text in " ".join(readme.split())

"""The pages of README.md and docs/: links that lead somewhere, figures that are shown, a reference of all that is public."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import vaefast
from vaefast import errors

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] if "_build" not in path.relative_to(ROOT).parts
)


def targets(text):
    """Files that a text links to or shows."""
    return [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]


def missing(page):
    """Targets of a page that are not there."""
    return [name for name in targets(page.read_text(encoding="utf-8")) if name and not (page.parent / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page):
    assert missing(page) == []


def test_a_link_to_nowhere_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("[a](page.md) ![b](b.png) [c](https://example.org/c) [d](e.md#f)")
    assert missing(page) == ["b.png", "e.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_merge_was_left_half_done(page):
    assert not re.search(r"^(<{7}|>{7}) ", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_each_figure_is_shown_on_a_page():
    shown = {(page.parent / name).resolve() for page in PAGES for name in targets(page.read_text(encoding="utf-8"))}
    assert [path.name for path in (ROOT / "docs" / "images").iterdir() if path not in shown] == []


def test_the_reference_names_all_that_is_public():
    reference = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    public = [name for name in vaefast.__all__ if name != "__version__"]
    public += [name for name, value in vars(errors).items() if isinstance(value, type)]
    assert [name for name in public if not re.search(rf"^   {name}$", reference, re.MULTILINE)] == []


def test_the_readme_is_one_that_a_person_reads():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150

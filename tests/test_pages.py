"""What README and docs name exists: files, configs, settings."""

import re
from pathlib import Path

import pytest

from swav_jax.config import defaults
from swav_jax.methods import METHODS

HOME = Path(__file__).parent.parent
PAGES = sorted([*HOME.glob("*.md"), *HOME.glob("docs/*.md")])
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pages
def test_links_lead_to_files_and_headings(page):
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles]
            assert heading in anchors, heading


@pages
def test_configs_that_are_named_exist(page):
    text = page.read_text()
    for name in re.findall(r"configs/(\w+)\.py", text):
        assert (HOME / "configs" / f"{name}.py").exists(), name
    for pattern in re.findall(r"`((?:quickstart|swav_(?!jax))\w*\*?)`", text):
        assert any((HOME / "configs").glob(f"{pattern}.py")), pattern


@pages
def test_settings_that_are_named_exist(page):
    known = {key for name in METHODS for key in flat(defaults(name))}
    sections = "|".join(sorted({key.split(".")[0] for key in known if "." in key}))
    text = page.read_text()
    named = re.findall(r"--config\.([a-z_]+(?:\.[a-z_]+)*)", text)
    files = r"(?:py|safetensors|onnx|stablehlo)\b"  # model.onnx is no setting
    named += re.findall(rf"`((?:{sections})\.(?!{files})[a-z_]+)[`=]", text)
    assert set(named) <= known


def flat(config, prefix=""):
    for key, value in config.items():
        yield prefix + key
        if hasattr(value, "items"):
            yield from flat(value, f"{prefix}{key}.")

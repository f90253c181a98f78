import csv
import json
import re

import numpy as np
import pytest
from browser import CHROMIUM, browser
from images import smooth
from tiny import tiny_swav

import swav_jax
from swav_jax import train
from swav_jax.data.sources.source import DataError
from swav_jax.tasks import report as report_lib
from swav_jax.tasks.curate import curate_task
from swav_jax.tasks.report import report_task
from swav_jax.trained import open_trained, settings_of

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
SECTIONS = ["clusters", "map", "neighbours", "odd", "figures", "training", "doctor", "settings"]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of three steps on the digits, with the report of its test images."""
    workdir = tmp_path_factory.mktemp("runs") / "mine & yours"
    config = tiny_swav()
    config.data.test, config.train.steps, config.eval.images = "test", 3, "test"
    train.pretrain(config, workdir)
    assert swav_jax.report(workdir) == workdir / "report.html"
    return workdir


def data_of(page):
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


def test_it_holds_what_was_asked_for(workdir):
    page = (workdir / "report.html").read_text()
    assert re.findall(r'<section id="(\w+)"', page) == SECTIONS
    assert "<h1>mine &amp; yours</h1>" in page
    data = data_of(page)
    assert sum(cluster["size"] for cluster in data["clusters"]) == 297
    assert len(data["map"]["x"]) == len(data["images"]["names"]) == 297
    assert "One group has" not in page  # after three steps: features are whitened
    top1 = json.loads((workdir / "results.json").read_text())["knn"]["top1"]
    assert f'<td class="number">{top1:.4g}</td>' in page


def test_an_image_that_could_be_read_only_once_is_left_out(workdir, monkeypatch):
    def without_the_first(*how):
        rows = read_rows(*how)
        return rows._replace(numbers=rows.numbers[1:], features=rows.features[1:])

    read_rows = report_lib.read_rows
    trained = open_trained(settings_of(workdir), workdir)
    whole = report_lib.look(trained)
    monkeypatch.setattr(report_lib, "read_rows", without_the_first)
    looked = report_lib.look(trained)
    assert looked.unreadable == 1 and looked.images.source.size == 296
    assert looked.names == whole.names[1:]
    np.testing.assert_array_equal(looked.features, whole.features[1:])
    np.testing.assert_array_equal(looked.clusters, whole.clusters[1:])


def test_no_address_in_it_leads_anywhere(workdir):
    page = (workdir / "report.html").read_text()
    assert not re.search(r"https?://|//[a-z]+\.[a-z]|@import", page.split('<script id="data"')[0])
    addresses = re.findall(r"(?:src|href)=[\"']([^\"']*)", page)
    assert addresses and all(address.startswith(("#", "data:")) for address in addresses)


@needs_chromium
def test_people_can_use_it(workdir, tmp_path):
    with browser(tmp_path / "profile") as page:
        for width, dark in ((1400, False), (380, True)):
            page.open(workdir / "report.html", width, dark=dark)
            assert page.run("document.documentElement.scrollWidth") <= width
            assert page.run("document.querySelectorAll('#gallery .card').length") >= 1
        assert page.run("theme.textContent") == "Light"
        page.run("theme.click()")
        assert page.run("getComputedStyle(document.body).colorScheme") == "light"

        # An image's neighbours, then its cluster, then away.
        page.run("document.querySelector('#neighbour-rows .query .tile').click()")
        assert (
            page.run("dialog.open")
            and page.run("dialog.querySelectorAll('.tiles .tile').length") == 16
        )
        page.run(
            "[...dialog.querySelectorAll('button')].find(b => /^All/.test(b.textContent)).click()"
        )
        assert page.run("dialog.querySelector('h3').textContent").startswith("Cluster ")
        page.run("dialog.close()")

        # The map by keys.
        page.run("document.getElementById('plane').focus()")
        first = page.run("document.getElementById('map-said').textContent")
        page.press("ArrowRight")
        assert first and page.run("document.getElementById('map-said').textContent") != first
        page.press("Enter")
        assert page.run("dialog.open")

        assert page.errors == []
        assert {address.split(":")[0] for address in page.requests} <= {"file", "data", "blob"}
        assert sum(address.startswith("file:") for address in page.requests) == 2  # the page, twice


def report_of(workdir, folder, **settings):
    """The report of a folder's images, and its data."""
    config = settings_of(workdir)
    config.eval.update(data_dir=str(folder), images=".", **settings)
    report_task(config, workdir)
    page = (workdir / "report.html").read_text()
    return page, data_of(page)


def groups_of(page, data):
    """The names in each group of near-duplicates."""
    groups = re.findall(r'class="alike" data-images="(.*?)"', page)
    names = data["images"]["names"]
    return sorted(sorted(names[i] for i in json.loads(group)) for group in groups)


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_of_one_image_without_labels(workdir, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    smooth(0, 20, 30).save(folder / "a<b.png")
    page, data = report_of(workdir, folder)
    assert data["images"]["names"] == ["a<b.png"] and data["images"]["labels"] is None
    assert "map" not in data and "There are too few images" in page
    if CHROMIUM:
        with browser(tmp_path / "profile") as opened:
            opened.open(workdir / "report.html", 800)
            assert opened.errors == []
            assert opened.run("document.querySelectorAll('#gallery .card').length") == 1


def test_damaged_images_are_counted_and_copies_are_found(workdir, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    with pytest.raises(DataError, match="1 of 1 images cannot be read"):
        report_of(workdir, tmp_path)
    letters = "abcdefghijklmnop"
    for number, name in enumerate(f"{letters}ab"):
        smooth(letters.index(name), 20, 30).save(tmp_path / f"{name}{number:02}.png")
    page, data = report_of(workdir, tmp_path)
    assert groups_of(page, data) == [["a00.png", "a16.png"], ["b01.png", "b17.png"]]
    assert "1 unreadable" in page and "2 groups" in page and "One group has" not in page

    # What the task finds, of the same images.
    config = settings_of(workdir)
    config.eval.update(data_dir=str(tmp_path), images=".", outlier_share=1.0)
    curate_task(config, workdir)
    names = data["images"]["names"]
    odd = re.search(r"<h3>Outliers</h3>.*?data-images=\"(.*?)\"", page)[1]
    outliers = table(workdir / "outliers.csv")
    assert [names[i] for i in json.loads(odd)] == [row["path"][-7:] for row in outliers]
    alike = [row["path"][-7:] for row in table(workdir / "duplicates.csv")]
    assert alike == [name for group in groups_of(page, data) for name in group]


def test_a_threshold_that_is_too_low_is_said(workdir, photos):
    page, _ = report_of(workdir, photos, duplicate_threshold=0.001)
    assert "One group has" in page and "<code>--config.eval.duplicate_threshold</code>" in page

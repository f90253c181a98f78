"""The notebooks of docs/ run from their first cell to their last."""

import json
from pathlib import Path

import pytest

HOME = Path(__file__).parent.parent
NOTEBOOKS = sorted(HOME.glob("docs/*.ipynb"))


# The quickstart trains for a minute; a smaller network and a few steps show the same.
SHORT = '"train.steps": 20, "model.arch": "one_conv"'


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_runs(notebook, monkeypatch, capsys):
    monkeypatch.chdir(HOME)
    # Other tests of this process need not keep what they free.
    monkeypatch.setattr("swav_jax.library.reuse_freed_memory", lambda: None)
    names: dict = {}
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"]).replace('"train.epochs": 8', SHORT)
            exec(compile(source, f"{notebook.name}, {cell['id']}", "exec"), names)
    said = capsys.readouterr().out
    assert "400 images in 10 folders" in said and "(400, 16) float32" in said
    assert names["page"].exists()
    assert names["pipeline"].score(names["others"], names["labels_of_others"]) > 0.5

"""The card type `html`, as Metaflow finds and renders it."""

import os

import pytest
from metaflow import Runner
from metaflow.cards import get_cards

FLOW = """
from metaflow import FlowSpec, card, step

class Pages(FlowSpec):
    @card(type="html", id="shown", options={"artifact": "drift_html"})
    @card(type="html", id="lacking", options={"artifact": "other_html"})
    @step
    def start(self):
        self.drift_html = "<!DOCTYPE html><p>drift</p>"
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    Pages()
"""


@pytest.mark.integration
def test_card_shows_the_artifact_that_its_option_names(tmp_path, monkeypatch):
    # Metaflow looks for cards below the working directory
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    flow = tmp_path / "pages.py"
    flow.write_text(FLOW)
    with Runner(str(flow), pylint=False, env=dict(os.environ)).run() as running:
        assert running.status == "successful", running.stderr
        task = running.run["start"].task
        (shown,) = get_cards(task, id="shown")
        (lacking,) = get_cards(task, id="lacking")
    assert shown.get() == "<!DOCTYPE html><p>drift</p>"
    assert "no artifact 'other_html'" in lacking.get()

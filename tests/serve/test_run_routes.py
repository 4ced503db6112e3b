"""The pages and the API of training runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.browser import wait_for
from helpers.served_photos import free_port
from helpers.written_runs import write_run
from starlette.testclient import TestClient

from xmodal_cli.file_lock import folder_lock
from xmodal_cli.serve import run_service
from xmodal_cli.serve.application import create_app
from xmodal_cli.serve.settings import ServeSettings

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, epochs in (("first", 4), ("second", 3)):
        write_run(tmp_path / "runs" / name, epochs, best_epoch=epochs)
    return tmp_path / "runs"


@pytest.fixture
def client(runs: Path) -> Iterator[TestClient]:
    with TestClient(create_app(ServeSettings(runs=runs)), base_url="http://127.0.0.1:7878") as found:
        yield found


def test_all_runs_are_listed(client, runs):
    found = client.get("/api/runs").json()["runs"]
    assert [(run["name"], run["state"], run["epoch"], run["best"]) for run in found] == [
        ("first", "finished", 4, {"rsum": 104.0}),
        ("second", "stopped", 3, {"rsum": 103.0}),
    ]
    assert "steps" not in found[0]
    text = client.get("/runs").text
    assert all(name in text for name in ("first", "second", "4 of 4", "3 of 4", "rsum 104.0"))
    assert "<svg" not in text


def test_one_run(client):
    found = client.get("/api/runs/first").json()
    assert len(found["steps"]) == len(found["evals"]) == 4 and found["settings"]["training.epochs"] == 4
    text = client.get("/runs?run=first").text
    assert text.count("<svg") == 2 and "training.epochs" in text  # loss and rsum
    assert client.get("/api/runs/third").status_code == 404
    assert client.get("/runs?run=third").status_code == 200  # it was deleted since the link was made


def test_runs_side_by_side(client, runs):
    config = (runs / "second" / "config.toml").read_text(encoding="utf-8")
    (runs / "second" / "config.toml").write_text(config.replace("triplet", "infonce"), encoding="utf-8")
    text = client.get("/runs?run=first&run=second").text
    settings = text.partition("Different settings")[2]
    assert "loss.name" in settings and "triplet" in settings and "infonce" in settings
    assert "training.epochs" not in settings  # it is equal
    assert "<strong>104.0</strong>" in text and "<strong>103.0</strong>" not in text
    curves = re.findall(r'aria-label="val rsum: ([^"]*)"', text)
    assert curves == ["first ends at 104, second ends at 103"]
    assert 'href="/runs?run=second"' in text  # removes the first one


def test_paths_are_not_names(client, runs):
    write_run(runs.parent / "outside", 4, best_epoch=4)
    for name in ("..%2Foutside", "../outside", str(runs / "first")):
        assert client.get(f"/runs/report?run={name}").status_code == 404
        assert client.get(f"/api/runs/{name}").status_code == 404


def test_markup_in_runs_is_text(client, runs):
    config = (runs / "first" / "config.toml").read_text(encoding="utf-8")
    text = config.replace('preset = "vse"', f'preset = "{HOSTILE}"').replace('"f8k"', f'"{HOSTILE}"')
    (runs / "first" / "config.toml").write_text(text, encoding="utf-8")
    (runs / "first").rename(runs / "<img src=x>")
    shown = client.get("/runs?run=<img src=x>&run=second").text
    assert HOSTILE not in shown and "<img" not in shown and "&lt;img src=x&gt;" in shown


def test_logs_are_read_again_if_they_have_changed(client, runs, monkeypatch):
    read: list[str] = []
    real = run_service.read_run
    monkeypatch.setattr(run_service, "read_run", lambda folder, name: read.append(name) or real(folder, name))
    for _ in range(2):
        assert client.get("/api/runs/first").json()["evals"][-1]["rsum"] == 104.0
        client.get("/runs")
    assert sorted(read) == ["first", "second"]
    with (runs / "first" / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"event": "eval", "step": 50, "epoch": 5, "rsum": 777.0}) + "\n")
    assert client.get("/api/runs/first").json()["evals"][-1]["rsum"] == 777.0
    with folder_lock(runs / "second", "the run"):
        assert client.get("/api/runs/second").json()["state"] == "training"
    assert read[2:] == ["first", "second"]


def test_a_damaged_run_does_not_hide_the_others(client, runs):
    (runs / "first" / "metrics.json").write_bytes(b"[")
    text = client.get("/runs?run=first&run=second").text
    assert "metrics.json" in text and "rsum 103.0" in text


def test_without_runs(tmp_path):
    with TestClient(create_app(ServeSettings(runs=tmp_path)), base_url="http://127.0.0.1:7878") as client:
        text = client.get("/runs").text
    assert "There is no training run" in text and "xmodal train" in text


def test_a_report_needs_a_model(client):
    response = client.get("/runs/report?run=first")
    assert response.status_code == 400 and "has no model yet" in response.text


def test_the_report_of_a_model(trained):
    """``xmodal eval --report`` runs in a process; its page has no scripts, and a policy that allows its style."""
    with TestClient(create_app(ServeSettings(runs=trained.parent)), base_url="http://127.0.0.1:7878") as client:
        address = f"/runs/report?run={trained.name}"
        first = client.get(address)
        assert "is being computed" in first.text and first.headers["refresh"]
        end = time.monotonic() + 120
        while "worst ranks" not in (page := client.get(address)).text:
            assert page.status_code == 202, page.text
            assert time.monotonic() < end
            time.sleep(0.2)
        assert "style-src 'unsafe-inline'" in page.headers["content-security-policy"]
        assert "script-src" not in page.headers["content-security-policy"]
        failed = f"{address}&split=absent"
        while (page := client.get(failed)).status_code == 202:
            assert time.monotonic() < end
            time.sleep(0.2)
        assert page.status_code == 400 and "absent" in page.text.partition("<h1>")[2].partition("</h1>")[2]


@pytest.fixture
def served(served_home: Path, runs: Path) -> Iterator[str]:
    """The address of a server that shows ``runs``."""
    port = free_port()
    command = [sys.executable, "-m", "xmodal_cli", "serve", "--port", str(port), "--runs", str(runs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def test_curves_grow_during_training(browser, served, runs):
    page = browser.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    with folder_lock(runs / "first", "the run"):
        page.goto(f"{served}/runs")
        page.click("text=first")
        page.wait_for_selector(".chart svg")
        assert page.inner_text(".chosen .state") == "training"
        page.focus(".chosen a")
        record = {"event": "eval", "step": 50, "epoch": 5, "rsum": 777.0}
        with (runs / "first" / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        wait_for(page, "document.querySelector('#curves').innerHTML.includes('rsum ends at 777')")
        assert page.evaluate("document.activeElement.getAttribute('href')") == "/runs"  # it is focused as before
    wait_for(page, "document.querySelector('.chosen .state').textContent === 'finished'")
    page.close()
    assert errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colors_widths_and_barriers(browser, served, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto(f"{served}/runs?run=first&run=second")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    lightness = page.evaluate(
        "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)[0]"
    )
    assert (lightness > 128) == (scheme == "light")
    found = axe.run(page).response["violations"]
    context.close()
    assert [(violation["id"], violation["impact"]) for violation in found] == []

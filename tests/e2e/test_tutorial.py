"""docs/tutorial.md, run as it stands: its blocks of shell, one after the other, in a folder of their own.

The whole of it is `make tutorial`. Here, among all other tests, the same blocks run with shorter recordings, hardly any
training, and a tiny network for a trunk: every command and option of the page, and none of its quality.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from poseline.bundle import ModelBundle, file_digest
from poseline.skeleton import BODY16
from poseline.timeline import TimelineSegment
from poseline_training.metrics.segmental import segmental_f1
from poseline_training.network.localizer import Localizer
from poseline_training.weights import WEIGHTS, write_weights
from servers import free_ports
from tiny_bundle import write_bundle

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "tutorial.md"
CLASSES = ["background", "cross_arms", "hands_on_hips", "scratch_head"]
TINY = {"--seconds 75": "--seconds 25", "--seconds 60": "--seconds 20", "finetune ": "finetune --steps 3 "}
"""What is shorter in the default suite."""


def run(home: Path, models: Path, changes: Mapping[str, str], timeout: float) -> str:
    """The page's blocks in `home`; what they printed. `poseline` is this very Python's, the server's port a free one."""
    port, metrics = free_ports()
    script = "\n".join(re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE))
    for old, new in {**changes, "127.0.0.1:8000": f"127.0.0.1:{port}"}.items():
        assert old in script, f"the page has no {old!r} any more"
        script = script.replace(old, new)
    (home / "models").symlink_to(models)
    (home / "bin").mkdir()
    poseline = home / "bin" / "poseline"
    poseline.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m poseline_cli "$@"\n')
    poseline.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("POSELINE_")}
    own = {
        "PATH": f"{poseline.parent}{os.pathsep}{clean['PATH']}",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "POSELINE_PORT": str(port),
        "POSELINE_METRICS_PORT": str(metrics),
    }
    whole = f"set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"
    done = subprocess.run(
        ["bash", "-c", whole], cwd=home, env=clean | own, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_bundle(home: Path) -> None:
    bundle = ModelBundle.open(home / "my" / "models" / "gestures-1")
    assert list(bundle.manifest.classes) == CLASSES
    assert set(bundle.manifest.metrics["thresholds"]) == set(CLASSES[1:])
    card = (bundle.path / "README.md").read_text()
    assert "### gestures (untrimmed_test" in card
    people = json.loads((home / "my" / "corpora" / "gestures" / "meta.json").read_text())["people"]
    assert sorted(people.values()) == ["test"] * 2 + ["train"] * 4 + ["val"] * 2


def trunk_in(models: Path) -> None:
    """A bundle with the weights of a small network that has learnt nothing, as the default one."""
    bundle = write_bundle(models)
    write_weights(Localizer(BODY16, len(bundle.manifest.classes), width=96), bundle.path / WEIGHTS)
    (bundle.path / "LICENSE").write_text("Apache-2.0")
    files = {name: file_digest(bundle.path / name) for name in (*bundle.manifest.files, WEIGHTS)}
    manifest = bundle.manifest.model_copy(update={"files": files})
    (bundle.path / "manifest.json").write_text(manifest.model_dump_json())


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_every_command_of_the_tutorial_runs(tmp_path: Path) -> None:
    trunk_in(tmp_path / "trunks")
    printed = run(tmp_path, tmp_path / "trunks", TINY, 300)
    check_bundle(tmp_path)
    assert "segments in 20.0 s" in printed or "segments in 19.9" in printed


@pytest.mark.skipif("POSELINE_TUTORIAL" not in os.environ, reason="minutes: make tutorial")
def test_the_tutorial_leads_to_a_model_that_finds_what_it_was_shown(tmp_path: Path) -> None:
    """On the models that are in the repository, and on a person whom nobody has trained on."""
    printed = run(tmp_path, PROJECT / "models", {}, 600)
    check_bundle(tmp_path)
    true, found = (segments(tmp_path / "my" / name) for name in ("new.csv", "found.csv"))
    assert len(true) > 7
    detections = [(one.start, one.end, CLASSES.index(one.label), one.score) for one in found]
    truths = [(one.start, one.end, CLASSES.index(one.label)) for one in true]
    assert segmental_f1([detections], [truths], 0.5) > 0.8
    assert printed.count("cross_arms") > 2, "neither table nor stream shows it"


def segments(path: Path) -> list[TimelineSegment]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [TimelineSegment("", "", r["label"], float(r["start"]), float(r["end"]), float(r["score"])) for r in rows]

"""The loop on disk: captures are picked, corrected in Label Studio, become a corpus; and two bundles are compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer

from poseline.bundle import ModelBundle
from poseline.errors import CorpusError
from poseline_training.compare import compare, verdict
from poseline_training.metrics.bootstrap import Interval
from tiny_bundle import CLASSES, motion, write_bundle

# --- which is better -------------------------------------------------------------------------------------------------


def write_truth(root: Path, bundle: ModelBundle) -> Path:
    """A corpus that says what one bundle scores highest: that bundle is right, whoever answers otherwise is not."""
    from poseline_training.runtime import open_scorer

    folder = root / "truth"
    folder.mkdir()
    poses = np.stack([motion(np.random.default_rng(n), 200) for n in range(4)])
    labels = open_scorer(bundle).replay(poses)[0].argmax(-1)
    np.savez(
        folder / "untrimmed_test.npz",
        joints=poses[..., :3].reshape(-1, 16, 3),
        seq_ptr=np.arange(5) * 200,
        seq_id=np.array([f"r{n}" for n in range(4)]),
        subject=np.array(list("abcd")),
        frame_label=labels.reshape(-1).astype(np.int16),
    )
    (folder / "meta.json").write_text(json.dumps({"name": "truth", "classes": bundle.manifest.classes}))
    used = {"common16": {"used_by": ["truth"], "facing": "+z"}}
    (root / "skeletons.json").write_text(json.dumps(used))
    return folder


def test_the_better_of_two_bundles_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right, late = write_bundle(tmp_path / "models", "right"), write_bundle(tmp_path / "models", "late", look_ahead=12)
    truth, figures = write_truth(tmp_path, right), tmp_path / "figures.json"
    compare(late.path, right.path, truth, "untrimmed_test", draws=100, json_=figures)
    assert "right is better than late" in capsys.readouterr().out
    found = json.loads(figures.read_text())
    assert (found["verdict"], found["persons"], found["classes"]) == ("better", 4, list(CLASSES[1:]))
    assert found["figures"]["frame_map"]["difference"]["low"] > 0
    with pytest.raises(typer.Exit) as worse:
        compare(right.path, late.path, truth, "untrimmed_test", draws=100)
    assert worse.value.exit_code == 1
    assert "late is worse than right" in capsys.readouterr().out
    compare(right.path, right.path, truth, "untrimmed_test", draws=100)
    assert "no difference is shown" in capsys.readouterr().out
    (truth / "meta.json").write_text(json.dumps({"name": "truth", "classes": ["background", "x", "y", "z"]}))
    with pytest.raises(CorpusError, match="no class that both bundles have"):
        compare(right.path, late.path, truth, "untrimmed_test", draws=100)


def test_an_interval_that_holds_zero_decides_nothing() -> None:
    assert verdict(Interval(0.02, 0.01, 0.03), 2) == "better"
    assert verdict(Interval(-0.02, -0.03, -0.01), 2) == "worse"
    assert verdict(Interval(0.02, -0.01, 0.05), 9) == "no difference shown"
    assert verdict(Interval(0.02, float("nan"), float("nan")), 9) == "no difference shown"
    assert verdict(Interval(0.02, 0.02, 0.02), 1) == "no difference shown", "one person has no interval"

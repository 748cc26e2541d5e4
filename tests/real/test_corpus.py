import json
from pathlib import Path

import numpy as np
import pytest

from poseline.errors import CorpusError
from poseline.formats.corpus import read_corpus, runs
from poseline_training.corpus import native

FILES = ["utkinect/untrimmed_test", "precog/untrimmed_val", "utd_mhad/stitched_val", "nw_ucla/stitched_val"]


@pytest.mark.parametrize("name", FILES)
def test_labels_agree_with_the_segments_written_beside_them(name: str, data: Path) -> None:
    sequences = read_corpus(data / f"{name}.npz")
    lines = (data / f"{name}_segments.csv").read_text().splitlines()[1:]
    written = {}
    for line in lines:
        sequence, _, start, end, label = line.split(",")
        written.setdefault(sequence, []).append((int(start), int(end), int(label)))
    for one in sequences:
        assert runs(one.labels) == sorted(written.get(one.name, []))


@pytest.mark.parametrize("name", FILES)
def test_native_poses_are_the_common_joints_turned_forward(name: str, data: Path) -> None:
    """The layout matrix against the index list that came with the data."""
    skeletons = json.loads((data / "skeletons.json").read_text())
    with np.load(data / f"{name}.npz") as arrays:
        first = arrays["joints"][: arrays["seq_ptr"][1]][:, skeletons["kinect20"]["common16"]]
    np.testing.assert_allclose(native(read_corpus(data / f"{name}.npz")[0])[..., :3], first * [-1, 1, -1], atol=1e-6)


def test_people_who_face_us_have_their_left_at_plus_x(data: Path) -> None:
    poses = np.concatenate([native(one) for one in read_corpus(data / "utd_mhad" / "stitched_val.npz")])
    left, right = poses[:, 4, 0].mean(), poses[:, 7, 0].mean()
    assert left > right + 0.2


def test_motion_capture_needs_no_turn(data: Path) -> None:
    one = read_corpus(data / "bandai_namco" / "trimmed_train_dataset1.npz")[0]
    assert native(one).shape[1:] == (16, 4)
    assert native(one)[0, 4, 0] > native(one)[0, 7, 0]


def test_an_unknown_sequence_is_named(data: Path) -> None:
    with pytest.raises(CorpusError, match="has no sequence 'nobody'; it has utk_s04_e01"):
        read_corpus(data / "utkinect" / "untrimmed_test.npz", "nobody")

"""What a set is for: its own classes, what it shares with others, or motion that is none of the model's."""

from pathlib import Path

import numpy as np
import pytest

from little_corpora import write_corpora
from poseline.errors import CorpusError
from poseline_training.config import DataSettings, SetSettings
from poseline_training.corpus import load_training_data


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpora(tmp_path_factory.mktemp("data"))


def data(root: Path, *sets: SetSettings) -> DataSettings:
    return DataSettings(root=root, label_map=None, sets=sets)


OWN = SetSettings(corpus="made_up", files=("untrimmed_train",), weight=0.5)
MANNERS = SetSettings(corpus="manners", files=("trimmed_train",), weight=0.5)


def test_foreign_motion_is_background_and_teaches_no_class(root: Path) -> None:
    loaded = load_training_data(data(root, OWN, MANNERS.model_copy(update={"classes": "foreign"})))
    assert loaded.classes == ("background", "wave", "punch")
    own, foreign = loaded.sets
    assert len(foreign.sequences) == 8
    assert all((one.labels == 0).all() for one in foreign.sequences)
    assert {int(c) for one in own.sequences for c in np.unique(one.labels)} == {0, 1, 2}


def test_styles_and_people_are_left_out(root: Path) -> None:
    some = MANNERS.model_copy(update={"classes": "foreign", "styles": ("old",)})
    without = OWN.model_copy(update={"without": ("2", "10")})
    own, foreign = load_training_data(data(root, without, some)).sets
    assert {one.person.split("/")[0] for one in own.sequences} == {"1", "3"}
    assert len(foreign.sequences) == 2


def test_a_set_that_shares_no_class_has_nothing_to_share(root: Path) -> None:
    with pytest.raises(CorpusError, match="nothing is left of manners"):
        load_training_data(data(root, OWN, MANNERS.model_copy(update={"classes": "shared"})))
    own, shared = load_training_data(
        data(root, OWN, SetSettings(corpus="other", files=("stitched_train",), weight=1, classes="shared"))
    ).sets
    assert len(shared.sequences) == 4
    assert own.sequences[0].labels.max() == shared.sequences[0].labels.max() == 2


def test_motion_of_the_models_own_classes_is_no_negative(root: Path) -> None:
    other = SetSettings(corpus="other", files=("stitched_train",), weight=1, classes="foreign")
    with pytest.raises(CorpusError, match="nothing is left of other"):
        load_training_data(data(root, OWN, other))

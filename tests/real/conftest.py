"""Real motion: `../shared/data` beside the project, in the format of docs/corpus.md. Absent: skipped, saying so."""

from pathlib import Path

import pytest

from poseline.bundle import ModelBundle, find_bundle

PROJECT = Path(__file__).parents[2]
DATA = PROJECT.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.real)
            if not DATA.is_dir():
                item.add_marker(pytest.mark.skip(reason="no real motion: ../shared/data is absent"))


@pytest.fixture(scope="session")
def data() -> Path:
    return DATA


@pytest.fixture(scope="session")
def default_bundle() -> ModelBundle:
    return find_bundle(PROJECT / "models")

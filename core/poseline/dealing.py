"""Who is trained on and who judges: people dealt to training, validation and test, none of them to two."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from poseline.errors import CorpusError
from poseline.formats.corpus import LabelledSequence, runs


def split_people(people: Mapping[str, Sequence[LabelledSequence]], told: Mapping[str, str]) -> dict[str, str]:
    """Person → split: as told, where it is told of everybody, else dealt. people: what there is of each.

    Raises CorpusError."""
    if all(told[person] for person in people):
        return {person: told[person] for person in people}
    return _deal({person: set(instances(many)) for person, many in people.items()})


def _deal(shown: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Person → split: a fifth of them (at least one) to validation, as many to test, so that training keeps as many classes
    as it can and the others show as many as they can. Two people: there is no test. shown: the classes of each person.

    Raises CorpusError for a single person, on whom nothing can be judged that was learnt from them.
    """
    if len(shown) < 2:
        raise CorpusError(
            "one person alone: what is learnt from them cannot be judged on them. Record somebody else, or say of everybody "
            "whose part is what (a column `split` of the table of people)"
        )
    people = sorted(shown, key=_natural)
    split = dict.fromkeys(people, "train")
    rest = list(people)
    for name in ("test", "val") if len(people) > 2 else ("val",):
        for _ in range(max(1, round(len(people) / 5))):

            def worth(one: str) -> tuple[int, int]:
                return len({c for other in rest if other != one for c in shown[other]}), len(shown[one])

            chosen = max(reversed(rest), key=worth)
            split[chosen] = name
            rest.remove(chosen)
    return split


def _natural(name: str) -> list[tuple[int, str]]:
    """So that 2 comes before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def check_splits(splits: Mapping[str, Sequence[LabelledSequence]], classes: Sequence[str]) -> None:
    """Raises CorpusError where nobody is trained on, or a class is shown to nobody who is."""
    if not splits.get("train"):
        raise CorpusError("nobody is in train: there is nothing to learn from")
    trained = instances(splits["train"])
    if lacking := [name for name in classes[1:] if not trained[name]]:
        raise CorpusError(f"nobody in train shows {', '.join(lacking)}; it takes others in train, or more recordings")


def instances(sequences: Iterable[LabelledSequence]) -> Counter[str]:
    """How often each class is shown."""
    return Counter(one.classes[label] for one in sequences for _, _, label in runs(one.labels))

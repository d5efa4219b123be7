"""Records of settings: what a class of options declares is what a configuration may hold."""

from dataclasses import dataclass

import pytest

from gnopt.options import REQUIRED, Settings, option


@dataclass(frozen=True, kw_only=True)
class Inner(Settings):
    decay: float = option(0.9, "a share", low=0.0, high=1.0, open_high=True)


@dataclass(frozen=True, kw_only=True)
class Base(Settings):
    rows: int = option(REQUIRED, "data points", low=1)
    names: list[str] = option(["a"], "some names", choices=("a", "b"))


@dataclass(frozen=True, kw_only=True)
class Outer(Base):
    size: int | str = option("auto", "a size")
    inner: Inner


def test_options_are_flat_and_in_the_order_of_declaration():
    assert [o.name for o in Outer.options()] == ["rows", "names", "size", "decay"]


def test_kinds_and_limits_follow_from_the_declaration():
    assert {o.name: o.expected for o in Outer.options()} == {
        "rows": "a whole number >= 1",
        "names": "a list of names out of a, b",
        "size": "a whole number or a name",
        "decay": "a number >= 0 and < 1",
    }
    decay = Outer.options()[-1]
    assert decay.parse(1.0, "x")[1] is not None
    assert decay.parse(0, "x") == (0.0, None)


def test_values_reach_the_record_that_declares_them():
    record = Outer.make({"rows": 3, "decay": 0.5})
    assert record.rows == 3
    assert record.inner.decay == 0.5
    assert record.values() == {"rows": 3, "names": ["a"], "size": "auto", "decay": 0.5}
    assert record.changed(decay=0.1, rows=4).values() == record.values() | {
        "decay": 0.1,
        "rows": 4,
    }


def test_lists_are_not_shared_between_records():
    first, second = Base.make({"rows": 1}), Base.make({"rows": 1})
    first.names.append("b")
    assert second.names == ["a"]


def test_an_unknown_or_missing_name_is_an_error():
    with pytest.raises(TypeError, match="no option dekay"):
        Outer.make({"rows": 1, "dekay": 0.5})
    with pytest.raises(TypeError, match="rows"):
        Outer.make({})


def test_parsing_leaves_wrong_values_at_their_defaults():
    record, problems = Outer.parse({"rows": 3, "decay": 2, "names": ["b", "aa"]}, "s")
    assert record == Outer.make({"rows": 3})
    assert [str(problem) for problem in problems] == [
        "s.decay = 2: expected a number >= 0 and < 1",
        "s.names = ['b', 'aa']: expected a list of names out of a, b (did you mean 'a'?)",
    ]


def test_there_is_no_record_without_a_required_value():
    for values, message in (({}, "missing key s.rows: data points"), ({"rows": 0}, "s.rows = 0")):
        record, (problem,) = Base.parse(values, "s")
        assert record is None
        assert message in str(problem)


def test_choices_are_looked_up_when_they_are_asked_for():
    known = {"one": 1}

    @dataclass(frozen=True, kw_only=True)
    class Chosen(Settings):
        name: str = option("one", "a name", choices=lambda: known)

    known["two"] = 2
    assert Chosen.options()[0].choices == ("one", "two")
    assert Chosen.parse({"name": "two"}, "s") == (Chosen(name="two"), [])

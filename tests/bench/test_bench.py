"""Rounds, averages and the choice of methods of ``gnopt bench``, on made-up times."""

import pytest

from gnopt import optimizers
from gnopt.bench import bench_texts
from gnopt.bench.bench import BenchResult, ProblemFacts
from gnopt.bench.entrants import BenchRequest, build_methods, read_config
from gnopt.bench.made_problem import QUICK, write
from gnopt.bench.timed_method import TimedUpdate
from gnopt.bench.turns import UpdateCost, take_turns
from gnopt.curvature.cost import Cost
from gnopt.errors import ConfigError, Diverged, GnoptError
from gnopt.training.setup import build


class Optimizer:
    """An optimizer whose work repeats after two updates."""

    def __init__(self, flops):
        self.flops = flops

    def period(self):
        return 2

    def cost(self, rows):
        return Cost({"passes": self.flops}, 8.0 * rows)


class Method:
    """A method whose updates take the given seconds, one after the other."""

    rows = 10

    def __init__(self, name, updates, flops=1e9):
        self.name, self.updates, self.optimizer = name, list(updates), Optimizer(flops)

    def settle(self):
        if not self.updates:
            raise Diverged("no finite loss")

    def measure(self):
        found = self.updates.pop(0)
        if found is None:
            raise Diverged("no finite loss")
        return found


class Rate:
    """Products at a fixed rate."""

    def measure(self):
        return 1e9


def update(place, seconds, rejected=False):
    return TimedUpdate(place, seconds, {"passes": 1.0, "inverses": seconds - 1.0}, rejected)


def silent(text):
    pass


def test_an_update_costs_the_mean_over_a_period_of_medians():
    updates = [update(0, 1.0), update(1, 5.0), update(0, 1.5), update(1, 7.0), update(0, 9.0)]
    (cost,), failed = take_turns([Method("one", updates)], Rate(), 5, silent)
    assert failed == {}
    assert cost.seconds == pytest.approx((1.5 + 6.0) / 2)
    assert cost.phases == pytest.approx({"passes": 1.0, "inverses": (0.5 + 5.0) / 2})
    assert cost.share == pytest.approx(1.0 / 3.75)
    assert (cost.updates, cost.state_bytes, cost.period) == (5, 80, 2)


def test_updates_that_undid_a_step_count_only_where_there_are_no_others():
    mixed = [update(0, 1.0), update(0, 100.0, rejected=True), update(0, 3.0)]
    (cost,), _ = take_turns([Method("one", mixed)], Rate(), 3, silent)
    assert (cost.seconds, cost.updates) == (2.0, 2)
    (cost,), _ = take_turns([Method("one", [update(0, 4.0, rejected=True)])], Rate(), 1, silent)
    assert (cost.seconds, cost.updates) == (4.0, 1)


def test_a_method_that_diverges_is_left_out_with_the_reason():
    good = Method("good", [update(0, 1.0)] * 3)
    late = Method("late", [update(0, 1.0), None, update(0, 1.0)])
    costs, failed = take_turns([Method("early", []), good, late], Rate(), 3, silent)
    assert [cost.method for cost in costs] == ["good"]
    assert failed == dict.fromkeys(("early", "late"), "diverged: no finite loss")


def test_a_dear_method_sits_out_rounds():
    dear = Method("dear", [update(0, 1.0)] * 2, flops=40e9)
    costs, _ = take_turns([Method("cheap", [update(0, 1.0)] * 8), dear], Rate(), 8, silent)
    assert [cost.updates for cost in costs] == [8, 2]


@pytest.fixture
def experiment(tmp_path):
    found = build(read_config(request(tmp_path)))
    yield found
    found.data.close()


def request(folder, *methods, sets=()):
    path = folder / "bench.toml"
    return BenchRequest(path if path.exists() else write(QUICK, folder), sets, {}, methods)


def test_without_names_one_first_order_method_and_what_is_not_too_dear(tmp_path, experiment):
    built, left_out = build_methods(request(tmp_path), experiment)
    assert set(built) | set(left_out) == set(optimizers.methods())
    assert not set(built) & set(left_out)
    assert experiment.config.method in built
    orders = [optimizers.get_method(name).order for name in built]
    assert orders.count(1) == 1
    assert orders.count(2) > 1
    flops = {name: built[name].cost(200).flops for name in built}
    assert max(flops.values()) <= 5.0 * min(flops.values())


def test_named_methods_are_all_built(tmp_path, experiment):
    built, left_out = build_methods(request(tmp_path, "all"), experiment)
    assert set(built) | set(left_out) == set(optimizers.methods())
    assert {"sgd", "kfra", "gauss_newton"} <= set(built)
    for name, reason in left_out.items():  # minutes an update, unless it is named
        assert "times the flops of the cheapest" in reason, name
    built, _ = build_methods(request(tmp_path, "sgd", "gauss_newton", "sgd"), experiment)
    assert list(built) == ["sgd", "gauss_newton"]


def test_options_go_to_the_methods_that_have_them(tmp_path, experiment):
    asked = request(tmp_path, "kflr", "adam", sets=("optimizer.columns=2", "optimizer.beta1=0.5"))
    built, _ = build_methods(asked, experiment)
    assert built["kflr"].settings.curvature.columns == 2
    assert built["adam"].settings.beta1 == 0.5
    with pytest.raises(ConfigError, match="not an option of adam"):
        build_methods(request(tmp_path, "adam", sets=("optimizer.columns=2",)), experiment)


def test_methods_that_do_not_fit_together_are_refused(tmp_path, experiment, monkeypatch):
    monkeypatch.setattr(experiment.ops, "free_memory", lambda: 1000)
    with pytest.raises(GnoptError, match=r"1,000 are free.*name fewer by --methods"):
        build_methods(request(tmp_path, "kfra", "kfac"), experiment)


# ---- the report ----------------------------------------------------------------------------------


def result(threads, **seconds):
    """A result in which each method takes these seconds, cheapest first."""
    facts = ProblemFacts([100] * 40, "squared_error", 10, "float64", "cpu", "Zen", "kfra")
    costs = [
        UpdateCost(name, value, {"passes": value}, {"passes": 1e9}, 1e9, 0.5, 8_000_000, 20, 10)
        for name, value in sorted(seconds.items(), key=lambda item: item[1])
    ]
    return BenchResult(facts, threads, costs, {"sgd": "no", "momentum": "no"})


def test_the_cheapest_method_and_the_best_number_of_threads_are_told():
    results = [result(1, adam=0.010, kfra=0.040), result(2, adam=0.020, kfra=0.030)]
    text = " ".join(bench_texts.text(results).split())
    assert "Cheapest per update: adam, 10.0 ms with 1 thread." in text
    assert "Best number of threads for kfra: 2 (40.0 ms with 1, 30.0 ms with 2)" in text
    assert "Set OMP_NUM_THREADS=2." in text
    assert "Not timed: sgd, momentum: no." in text
    assert "dgemm" in text


def test_threads_are_chosen_for_the_cheapest_method_where_the_configured_one_is_not_timed():
    results = [result(1, adam=0.010), result(2, adam=0.005)]
    assert bench_texts.subject_of(results) == "adam"
    assert bench_texts.best_result(results).threads == 2


def test_tables_fit_eighty_columns():
    names = ["levenberg_marquardt", "a_plug_in_with_a_name_of_more_letters_than_a_line_holds" * 2]
    slow = dict.fromkeys(names, 123.4)
    text = bench_texts.text([result(n, **slow) for n in (1, 2, 4, 8, 16, 32)])
    assert max(map(len, text.splitlines())) <= 80

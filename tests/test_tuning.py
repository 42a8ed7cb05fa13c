"""Response surface: what it recovers, what it claims to know, and that it chooses better than the luckiest trial."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from evomix.errors import UserError
from evomix.settings import Tuning
from evomix.streams import numpy_stream
from evomix.tuning import surface
from evomix.tuning.design import points
from evomix.tuning.search_space import Dimension, coordinates, dimensions, grid

Array = npt.NDArray[np.float64]
ALL = (0, 1, 2, 3)
NOISE = 0.005
REST = (1, 1, 0.3, 1, 1, 1, 4, 4, 4, 4, 4, 4)


def tuning(trials: int, **settings: object) -> Tuning:
    return Tuning(**({"size": "base", "trials": trials, "steps": 100} | settings))


class World:
    """A true loss with its optimum at a random place: curved and skewed in the learning rate, as trainings are."""

    def __init__(self, stream: np.random.Generator) -> None:
        self.place = stream.uniform([-0.2, -1, -1], [0.8, 1, 1])
        self.skew = stream.uniform(-0.3, 1)
        self.batch = stream.uniform(0, 0.03)
        self.twist = stream.uniform(-0.01, 0.005)

    def loss(self, at: Array) -> Array:
        rate = 1.15 * (at[:, 0] - self.place[0])
        value = 0.02 * rate**2 * (1 + self.skew * rate / 4) + 0.003 * (at[:, 1] - self.place[1]) ** 2
        loss: Array = value + 0.004 * (at[:, 2] - self.place[2]) ** 2 - self.batch * at[:, 3]
        return loss + self.twist * at[:, 0] * at[:, 3]


def test_coordinates_are_the_stated_scales() -> None:
    rate, warmup, decay, batch = dimensions(tuning(4))
    assert rate.coordinate(1e-4) == -1
    assert rate.coordinate(np.sqrt(1e-4 * 1e-3)) == pytest.approx(0)
    assert warmup.coordinate(np.expm1((np.log1p(500) + np.log1p(2000)) / 2)) == pytest.approx(0)
    assert decay.coordinate(0.075) == pytest.approx(0.5)
    assert [batch.coordinate(size) for size in (32, 64, 128)] == pytest.approx([-1, 0, 1])


@pytest.mark.parametrize("dimension", dimensions(tuning(4)), ids=lambda item: item.name)
def test_values_stay_in_range_and_come_back(dimension: Dimension) -> None:
    for place in np.linspace(-1, 1, 101):
        value = dimension.value(float(place))
        assert dimension.low <= value <= dimension.high
        assert dimension.choices == () or value in dimension.choices
        if not dimension.choices:
            assert dimension.coordinate(value) == pytest.approx(place, abs=0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": (1e-2, 1e-3)}, r"tuning\.learning_rate is \[0\.01, 0\.001\]"),
        ({"learning_rate": (0, 1e-3)}, r"tuning\.learning_rate begins at 0"),
        ({"weight_decay": (-0.1, 0.1)}, r"tuning\.weight_decay begins at -0\.1"),
        ({"batch_sizes": [0, 2]}, r"tuning\.batch_sizes holds 0"),
    ],
)
def test_impossible_ranges_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dimensions(tuning(4, **settings))


@pytest.mark.parametrize("growth", [0.0, 1.0])
def test_surface_equals_the_posterior_by_another_route(growth: float) -> None:
    """Ridge mean and covariance against the Gaussian conditional of losses under their joint prior (no code shared)."""
    stream = np.random.default_rng(3)
    at = stream.uniform(-1, 1, (30, 4))
    losses = World(stream).loss(at) + NOISE * np.exp(growth * at[:, 0]) * stream.normal(size=30)
    fitted = surface.fit(at, losses, ALL)
    assert fitted.growth == growth
    square = (3 * at**2 - 1) / 2
    pairs = [at[:, i] * at[:, j] for i in range(4) for j in range(i + 1, 4)]
    powers = [at[:, 0] ** power for power in (3, 4, 5, 6)]
    rate, others = fitted.penalties
    columns = np.column_stack([np.ones(30), at[:, 0], square[:, 0], *powers, at[:, 1:], square[:, 1:], *pairs])
    weights = np.array([1e-5] + [rate * w for w in (1, 1, 0.2, 0.4, 0.8, 1.6)] + [others * w for w in REST])
    noise = fitted.residual_sd**2 * np.exp(2 * growth * (at[:, 0] - at[:, 0].mean()))
    prior = np.diag(fitted.residual_sd**2 / weights)
    joint = columns @ prior @ columns.T
    gain = joint @ np.linalg.inv(joint + np.diag(noise))
    mean, error = fitted.predict(at)
    np.testing.assert_allclose(mean, gain @ losses, atol=1e-4)
    np.testing.assert_allclose(error, np.sqrt(np.diag(joint - gain @ joint)), rtol=0.02)


def test_a_clean_quadratic_is_recovered() -> None:
    space = dimensions(tuning(40))
    at = coordinates(space, points(tuning(40)))
    truth = 2 + 0.05 * (at[:, 0] - 0.3) ** 2 - 0.01 * at[:, 3] + 0.02 * (at[:, 1] + 0.5) ** 2
    fitted = surface.fit(at, truth + numpy_stream(1, "tiny").normal(scale=1e-6, size=40), ALL)
    best = grid(space)[fitted.predict(grid(space))[0].argmin()]
    assert best[[0, 1, 3]] == pytest.approx([0.3, -0.5, 1], abs=0.06)
    assert fitted.residual_sd < 3e-4


@pytest.mark.parametrize(
    ("trials", "squares", "interactions"), [(4, 1, 0), (8, 1, 0), (12, 4, 0), (18, 4, 0), (19, 4, 6)]
)
def test_fewer_trials_carry_fewer_terms(trials: int, squares: int, interactions: int) -> None:
    chosen = surface.terms(trials, ALL)
    assert sum(len(term) == 2 and len(set(term)) == 1 for term in chosen) == squares
    assert sum(len(set(term)) == 2 for term in chosen) == interactions
    assert sum(len(term) > 2 for term in chosen) == 4
    assert {(), (0,), (1,), (2,), (3,)} <= set(chosen)


def test_constant_hyper_parameters_leave_the_surface() -> None:
    fixed = tuning(6, batch_sizes=[16], weight_decay=(0.1, 0.1))
    space = dimensions(fixed)
    assert [dimension.active for dimension in space] == [True, True, False, False]
    assert {point["weight_decay"] for point in points(fixed)} == {0.1}
    at = coordinates(space, points(fixed))
    assert (at[:, 2:] == 0).all()
    fitted = surface.fit(at, at[:, 0] ** 2, (0, 1))
    assert fitted.terms == [(), (0,), (0, 0), (1,), *((0,) * power for power in (3, 4, 5, 6))]
    assert surface.terms(50, ()) == [()]


def test_noise_and_error_are_calibrated_and_the_choice_beats_the_luckiest_trial() -> None:
    """150 worlds with 50 trials each, seed noise .005 (nats): compare what each rule would cost and how it scatters."""
    settings = tuning(50)
    space = dimensions(settings)
    at, candidates = coordinates(space, points(settings)), grid(space)
    stream = numpy_stream(11, "worlds")
    regret: dict[str, list[float]] = {"surface": [], "bold": [], "luckiest": [], "promised": []}
    wanders: dict[str, list[float]] = {"surface": [], "luckiest": []}
    optimism, surprise, noise = [], [], []
    for _ in range(150):
        world = World(stream)
        truth = world.loss(candidates)
        losses = world.loss(at) + stream.normal(scale=NOISE, size=len(at))
        fitted = surface.fit(at, losses, ALL)
        expected, error = fitted.predict(candidates)
        chosen, lucky = fitted.cautious_optimum(candidates), int(losses.argmin())
        draws = fitted.draw(candidates, stream, 50)
        regret["surface"].append(truth[chosen] - truth.min())
        regret["bold"].append(truth[expected.argmin()] - truth.min())
        regret["promised"].append(float((draws[chosen] - draws.min(axis=0)).mean()))
        regret["luckiest"].append(world.loss(at[[lucky]])[0] - truth.min())
        wanders["surface"].append(candidates[chosen, 0] - candidates[truth.argmin(), 0])
        wanders["luckiest"].append(at[lucky, 0] - candidates[truth.argmin(), 0])
        optimism.append(world.loss(at[[lucky]])[0] - losses[lucky])
        surprise.append((truth[chosen] - expected[chosen]) / error[chosen])
        noise.append(fitted.residual_sd)
    mean = {rule: float(np.mean(values)) for rule, values in regret.items()}
    assert mean["surface"] < 0.5 * mean["luckiest"], mean
    assert mean["surface"] < 0.9 * mean["bold"], "caution about ill-known corners pays"
    assert np.std(wanders["surface"]) < 0.75 * np.std(wanders["luckiest"])
    assert 0.004 < np.mean(optimism) < 0.012, "the luckiest of 50 trials looks 4-12e-3 better than it is"
    assert abs(np.mean(surprise)) < 0.8
    assert 0.6 < np.std(surprise) < 1.4
    assert 0.9 * NOISE < np.mean(noise) < 1.15 * NOISE
    assert 0.4 < mean["promised"] / mean["surface"] < 2, (
        "the expected regret that is reported is the regret that is met"
    )


def test_noise_that_grows_towards_the_cliff_is_noticed_and_does_not_mislead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials that scatter seven times as much one coordinate above the optimum: a surface with one noise believes them.

    Its choice would cost several times as much, and it would not know.
    """
    settings = tuning(50)
    space = dimensions(settings)
    at, candidates = coordinates(space, points(settings)), grid(space)

    def run() -> tuple[float, float, float, float]:
        stream, rows = numpy_stream(15, "worlds"), []
        for _ in range(60):
            world = World(stream)
            scatter = NOISE * np.exp(2 * (at[:, 0] - world.place[0]))
            fitted = surface.fit(at, world.loss(at) + scatter * stream.normal(size=len(at)), ALL)
            chosen, truth = fitted.cautious_optimum(candidates), world.loss(candidates)
            draws = fitted.draw(candidates, stream, 50)
            promised = float((draws[chosen] - draws.min(axis=0)).mean())
            noise = float(fitted.noise(candidates[[chosen]])[0])
            real = NOISE * np.exp(2 * (candidates[chosen, 0] - world.place[0]))
            rows.append((truth[chosen] - truth.min(), promised, noise / real, fitted.growth))
        regret, promised, noise, growth = np.mean(rows, axis=0)
        return float(regret), float(promised), float(noise), float(growth)

    regret, promised, noise, growth = run()
    assert growth == pytest.approx(1, abs=0.1), "the largest that it allows"
    assert 0.5 < noise < 2
    assert promised > 0.8 * regret
    monkeypatch.setattr(surface, "_GROWTHS", np.zeros(1))
    blind, *_ = run()
    assert regret < 0.5 * blind, (regret, blind)


@pytest.mark.parametrize(("cliff", "steep", "factor"), [(2.0, 0.0, 0.75), (0.0, 0.4, 0.75), (2.0, 0.4, 0.85)])
def test_a_cliff_at_high_rates_and_a_steep_slope_at_low_ones_do_not_mislead(
    cliff: float, steep: float, factor: float
) -> None:
    """Losses far from a quadratic in the learning rate: a quadratic surface would do worse than the luckiest trial."""
    settings = tuning(50)
    space = dimensions(settings)
    at, candidates = coordinates(space, points(settings)), grid(space)
    stream = numpy_stream(13, "worlds")
    surfaces, luckiest = [], []
    for _ in range(100):
        world, edge = World(stream), stream.uniform(0.3, 0.9)

        def loss(places: Array, world: World = world, edge: float = edge) -> Array:
            fall = steep * np.exp(-1.5 * (places[:, 0] + 1))
            total: Array = world.loss(places) + fall + cliff * np.maximum(0, places[:, 0] - edge) ** 2
            return total

        losses = loss(at) + stream.normal(scale=NOISE, size=len(at))
        truth = loss(candidates)
        surfaces.append(truth[surface.fit(at, losses, ALL).cautious_optimum(candidates)] - truth.min())
        luckiest.append(loss(at[[losses.argmin()]])[0] - truth.min())
    assert np.mean(surfaces) < factor * np.mean(luckiest), (np.mean(surfaces), np.mean(luckiest))


def test_pruning_would_not_pay() -> None:
    """Equal compute (31 full trials): 50 to a quarter of the horizon and the better half of them on, or 31 to the end.

    The quarter is given its best case, the same loss surface as at the end with the same noise.
    """
    space = dimensions(tuning(50))
    all_at, candidates = coordinates(space, points(tuning(50))), grid(space)
    stream = numpy_stream(14, "worlds")
    pruned, whole = [], []
    for _ in range(150):
        world = World(stream)
        truth = world.loss(candidates)
        early = world.loss(all_at) + stream.normal(scale=NOISE, size=50)
        late = world.loss(all_at) + stream.normal(scale=NOISE, size=50)
        for regrets, kept in ((pruned, np.argsort(early)[:25]), (whole, np.arange(31))):
            chosen = surface.fit(all_at[kept], late[kept], ALL).cautious_optimum(candidates)
            regrets.append(truth[chosen] - truth.min())
    assert np.mean(whole) < np.mean(pruned), (np.mean(whole), np.mean(pruned))


def test_small_budgets_do_not_do_worse_than_the_luckiest_trial() -> None:
    stream = numpy_stream(12, "worlds")
    for trials, factor in ((4, 1.3), (8, 1.05), (16, 0.8)):
        settings = tuning(trials)
        space = dimensions(settings)
        at, candidates = coordinates(space, points(settings)), grid(space)
        surfaces, luckiest = [], []
        for _ in range(100):
            world = World(stream)
            losses = world.loss(at) + stream.normal(scale=NOISE, size=trials)
            truth = world.loss(candidates)
            fitted = surface.fit(at, losses, ALL)
            assert fitted.degrees_of_freedom <= 0.6 * trials, "some of every budget is left to tell noise from shape"
            surfaces.append(truth[fitted.cautious_optimum(candidates)] - truth.min())
            luckiest.append(world.loss(at[[losses.argmin()]])[0] - truth.min())
        assert np.mean(surfaces) < factor * np.mean(luckiest), (trials, np.mean(surfaces), np.mean(luckiest))

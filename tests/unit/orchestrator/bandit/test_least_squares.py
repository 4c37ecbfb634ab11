import numpy as np
import pytest

from orchestrator.bandit.least_squares import Matrix, Vector, inverse, quadratic, solve_non_negative


def problem(seed: int) -> tuple[Matrix, Vector]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(8, 3))
    matrix, right = (rows.T @ rows).tolist(), rng.normal(scale=3, size=3).tolist()
    return tuple(map(tuple, matrix)), tuple(right)


@pytest.mark.parametrize("seed", range(10))
def test_inverse_and_quadratic_form_are_numpys(seed: int) -> None:
    matrix, vector = problem(seed)
    assert np.array(inverse(matrix)) == pytest.approx(np.linalg.inv(matrix))
    assert quadratic(matrix, vector) == pytest.approx(np.array(vector) @ matrix @ vector)


@pytest.mark.parametrize("seed", range(50))
def test_no_unknown_is_negative_and_the_others_are_best_without_those_that_would_be(seed: int) -> None:
    matrix, right = problem(seed)
    found = solve_non_negative(matrix, right, inverse(matrix))
    free = [index for index, value in enumerate(found) if value > 0]
    assert min(found) >= 0
    best = np.linalg.solve(np.array(matrix)[np.ix_(free, free)], np.array(right)[free])
    assert [found[index] for index in free] == pytest.approx(best)

"""Least squares in a few unknowns, from additive sums. Pure; at this size numpy would be slower."""

from __future__ import annotations

from collections.abc import Sequence


def solve(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """Solve matrix @ x = right by elimination.

    Args:
        matrix: (n, n), symmetric and positive definite.
        right: (n,).

    Raises:
        ZeroDivisionError: the matrix is singular.
    """
    size = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for pivot in range(size):
        for below in range(pivot + 1, size):
            factor = rows[below][pivot] / rows[pivot][pivot]
            for column in range(pivot, size + 1):
                rows[below][column] -= factor * rows[pivot][column]
    solution = [0.0] * size
    for index in reversed(range(size)):
        known = sum(rows[index][column] * solution[column] for column in range(index + 1, size))
        solution[index] = (rows[index][size] - known) / rows[index][index]
    return solution


def solve_non_negative(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """The same, but unknowns that would come out negative are zero, and the others are what they then are.

    Each step takes out the most negative one; for well-conditioned problems of a few unknowns that is the constrained
    minimum or close to it.
    """
    free = list(range(len(right)))
    solution = [0.0] * len(right)
    while free:
        found = solve([[matrix[row][column] for column in free] for row in free], [right[row] for row in free])
        if min(found) >= 0:
            for index, value in zip(free, found, strict=True):
                solution[index] = value
            break
        del free[found.index(min(found))]
    return solution

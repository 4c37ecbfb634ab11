"""Least squares in three unknowns, from additive sums. Pure; at this size numpy would be slower."""

from __future__ import annotations

from collections.abc import Sequence

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]


def inverse(matrix: Matrix) -> Matrix:
    """Of a symmetric positive definite matrix, by cofactors.

    Raises:
        ZeroDivisionError: the matrix is singular.
    """
    (a, b, c), (_, d, e), (_, _, f) = matrix
    first, second, third = d * f - e * e, c * e - b * f, b * e - c * d
    scale = 1 / (a * first + b * second + c * third)
    fourth, fifth, sixth = a * f - c * c, b * c - a * e, a * d - b * b
    return (
        (first * scale, second * scale, third * scale),
        (second * scale, fourth * scale, fifth * scale),
        (third * scale, fifth * scale, sixth * scale),
    )


def quadratic(matrix: Matrix, vector: Vector) -> float:
    """vector @ matrix @ vector."""
    x, y, z = vector
    (a, b, c), (_, d, e), (_, _, f) = matrix
    return a * x * x + d * y * y + f * z * z + 2 * (b * x * y + c * x * z + e * y * z)


def solve_non_negative(matrix: Matrix, right: Vector, inverted: Matrix) -> Vector:
    """Solve matrix @ x = right; unknowns that would come out negative are zero, the others what they then are.

    Each step takes out the most negative one; for so few unknowns that is the constrained minimum or close to it.

    Args:
        inverted: the matrix's inverse.
    """
    found = [sum(map(float.__mul__, row, right)) for row in inverted]
    free = [0, 1, 2]
    while min(found, default=0.0) < 0:
        del free[found.index(min(found))]
        found = _solve([[matrix[row][column] for column in free] for row in free], [right[row] for row in free])
    solution = [0.0, 0.0, 0.0]
    for index, value in zip(free, found, strict=True):
        solution[index] = value
    return solution[0], solution[1], solution[2]


def _solve(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """In two unknowns, one or none."""
    if len(right) < 2:
        return [right[0] / matrix[0][0]] if right else []
    (a, b), (_, c) = matrix
    scale = 1 / (a * c - b * b)
    return [(c * right[0] - b * right[1]) * scale, (a * right[1] - b * right[0]) * scale]

"""Every example, rendered once."""

from __future__ import annotations

import functools

import pytest

from tests.deploy.chart import EXAMPLES, Manifests, example, render


@functools.cache
def _rendered(name: str) -> Manifests:
    return render(example(name))


@pytest.fixture(params=("defaults", *EXAMPLES))
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return _rendered(request.param)


@pytest.fixture
def defaults() -> Manifests:
    return _rendered("defaults")


@pytest.fixture
def production() -> Manifests:
    return _rendered("production")

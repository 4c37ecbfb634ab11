"""Settings for all tests."""

from hypothesis import settings

# The machines that run tests are shared: how long an example takes says nothing.
settings.register_profile("draftpool", deadline=None, derandomize=True)
settings.load_profile("draftpool")

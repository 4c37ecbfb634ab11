"""Settings for all tests."""

import os

import torch
from hypothesis import settings

if not torch.cuda.is_available():
    # Lets Triton's kernels run on the CPU; it is read when Triton is imported, by whomever.
    os.environ.setdefault("TRITON_INTERPRET", "1")

# The machines that run tests are shared: how long an example takes says nothing.
settings.register_profile("draftpool", deadline=None, derandomize=True)
settings.load_profile("draftpool")

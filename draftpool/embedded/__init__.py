"""The models that ship with draftpool, so that it runs without a download. How they were made: `training/`."""

from pathlib import Path

EMBEDDED_MODELS = ("tiny-llama", "tiny-neox", "tiny-mamba-drafter")
"""Two targets that differ in architecture and tokenizer, and the drafter that serves both."""


class UnknownEmbeddedModel(KeyError):
    """No model of this name ships with draftpool."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"no embedded model is called {self.name!r}; there are {', '.join(EMBEDDED_MODELS)}"


def embedded_path(name: str) -> Path:
    """The folder of an embedded model, in Hugging Face's layout.

    Raises:
        UnknownEmbeddedModel: `name` is not in `EMBEDDED_MODELS`.
    """
    if name not in EMBEDDED_MODELS:
        raise UnknownEmbeddedModel(name)
    return Path(__file__).parent / name

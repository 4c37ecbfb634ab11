from rich.console import Console

from draftpool.cli.models import models_table
from draftpool.client import Model

SERVED = Model("meta-llama-3.1-8b", "llama", "bfloat16", 8_030_261_248, 128_256, 131_072, True, 0.82)
COLD = Model("seldom", "", "", 0, 0, 0, False, 0.0, is_cold=True)


def test_the_table_fits_a_terminal_of_80_columns() -> None:
    console = Console(width=80, record=True)
    console.print(models_table([SERVED, COLD]))
    _, _, served, *cold = (" ".join(line.split()) for line in console.export_text().splitlines() if line.strip())
    assert served == "meta-llama-3.1-8b llama 8.0B bfloat16 128,256 131,072 for 82%"
    assert " ".join(cold) == "seldom starts when asked"

from dataclasses import replace

from rich.console import Console

from draftpool.cli.bandit import load_table
from draftpool.learned import LearnedArm, LearnedLoad, LearnedSituation
from draftpool.tree import NO_DRAFT
from draftpool.tree_policy import BestFirst

BEST = LearnedArm(BestFirst(8, 7), 120.4, 3.21, 7.8, 4.5, 0.015, -0.42, 0.01, -0.40)
PLAIN = replace(BEST, policy=NO_DRAFT, num_tokens=1.0, num_nodes=0.0, round_s=0.01, reward=-1.0)
LOAD = LearnedLoad(4, 7, is_current=True, num_rounds=120.4, plain_round_s=0.01, arms=(BEST, PLAIN))


def test_the_table_says_what_an_arm_brings_and_takes_and_which_is_chosen() -> None:
    console = Console(width=140, record=True)
    console.print(load_table(LearnedSituation("tiny-llama", "mamba", "greedy", (LOAD,)), LOAD))
    lines = [" ".join(line.split()) for line in console.export_text().splitlines() if line.strip(" ─")]
    title = " ".join(lines[:-4])
    assert title == "tiny-llama, drafter mamba, greedy, sessions open: 4 to 7, 120 rounds timed, a plain one 10.0 ms"
    cells = lines[-2:]
    assert cells[0] == "best 8 of depth 7 120 3.21 7.8 1.50 -0.420 0.010 -0.400 ←"
    assert cells[1] == "no draft 120 1.00 0.0 1.00 -1.000 0.010 -0.400"


def test_the_table_fits_a_terminal_of_80_columns() -> None:
    console = Console(width=80, record=True)
    arm = replace(BEST, policy=BestFirst(32, 7), num_rounds=123456, num_tokens=12.34, num_nodes=128.0, round_s=0.123)
    load = replace(LOAD, arms=(arm, PLAIN))
    console.print(load_table(LearnedSituation("tiny-llama", "mamba", "greedy", (load,)), load))
    text = console.export_text()
    assert "…" not in text
    assert "best 32 of depth 7  123456   12.34  128.0   12.30  -0.420  0.010  -0.400  ←" in text

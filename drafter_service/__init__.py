"""The drafter: proposes token trees with a small Mamba, for any target whose vocabulary it is given."""

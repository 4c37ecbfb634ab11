"""Between the tokens of the drafter and those of its targets."""

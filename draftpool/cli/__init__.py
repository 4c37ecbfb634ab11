"""The `draftpool` command. One file a command; `stack` is also for tests, benchmarks and the demo."""

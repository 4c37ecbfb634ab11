"""Where every figure in the README comes from. Each module is a command: `python -m benchmarks.<name> --help`."""

"""`python -m draftpool` is the `draftpool` command."""

from draftpool.cli.app import main

if __name__ == "__main__":
    main()

"""`python -m retrofair` is the `retrofair` command."""

from retrofair.cli import main

if __name__ == "__main__":
    main()

"""`python -m cortex`: the same program as the console script."""

from cortex.cli.app import main

if __name__ == "__main__":
    main()

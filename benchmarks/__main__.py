"""`python -m benchmarks` and `flowgauge`: the command line."""


def main() -> None:
    """Run the command line."""
    from benchmarks.cli.app import app
    from benchmarks.cli.console import shorten_warnings

    shorten_warnings()
    app()


if __name__ == "__main__":
    main()

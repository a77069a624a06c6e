"""`python -m benchmarks` and `flowgauge`: the command line."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    import warnings

    from benchmarks.cli.app import app
    from benchmarks.cli.console import warn

    warnings.showwarning = warn  # type: ignore[assignment]  # takes the rest by position
    app()


if __name__ == "__main__":
    main()

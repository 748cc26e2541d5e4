"""`python -m poseline_cli` is `poseline`."""

from poseline_cli import main

main()

"""`python -m rsrl_lib`, for where the command `rsrl` is not on the path."""

from rsrl_lib.interface.cli import main

main()

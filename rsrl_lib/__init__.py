"""Repetitive self-revised learning for photo aesthetics: one module, one idea of the papers."""

import os
import sys

# Threads of torch that wait for one another keep their cores busy for it, and so for other work
# and for the very thread that they wait for. To be said before OpenMP is loaded; yours wins.
WAITING = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}
if "torch" not in sys.modules and not WAITING & os.environ.keys():
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

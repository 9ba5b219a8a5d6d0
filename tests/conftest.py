"""One thread everywhere: results do not depend on the machine, and forks are safe."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")

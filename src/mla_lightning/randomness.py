"""Counter-based randomness: every random number is a function of where it is used.

A run that is killed and resumed can only equal the uninterrupted one if nothing depends on how
many numbers were drawn before. So the order of samples is a function of (seed, epoch), dropout of
(seed, batch), gradient noise of (seed, step), and no code reads a generator's running state.
"""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *counters: int | str) -> int:
    """Derive an independent seed for one use of randomness.

    Args:
        seed: The run's seed.
        *counters: What the randomness is for and where, such as ``"order", epoch``.

    Returns:
        A seed in ``[0, 2**63)``; equal arguments give equal seeds on every machine.
    """
    text = "/".join(str(part) for part in (seed, *counters))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1

"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# A per-example deadline measures how busy the machine is, not the code.
settings.register_profile("cortex", deadline=None)
settings.load_profile("cortex")

"""Runs that are struck, frozen and starved, held to undisturbed ones."""

import os

# A busy machine is no reason to fail; Ray reads it once, when any module here imports it.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")

"""Simulated pairs: chests that breathe, random shapes, synthetic images."""

from regzoo import backend  # noqa: F401 - first, since it keeps start-up chatter away

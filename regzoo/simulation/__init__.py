"""Simulated pairs: chests that breathe, random shapes, synthetic images."""

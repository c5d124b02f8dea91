"""Benchmarks: each variant in a process of its own, the variants taking turns."""

"""Image files -> patches -> pairs of degraded and clean images."""

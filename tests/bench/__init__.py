"""Benchmarks: ``python -m tests.bench`` runs every ``bench_*`` function of every ``bench_*.py`` here."""

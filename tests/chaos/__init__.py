"""Chaos against the running order path: a runner that breaks it, and a judge that compares the books afterwards.

``python -m tests.chaos`` is what ``make chaos`` runs. The runner owns PostgreSQL and Valkey, so that it can restart
them; everything else is the same ops/stack.py as in ``make up``.
"""

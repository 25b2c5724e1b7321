"""Throughput reports (`python -m pytest benchmarks`) and experiments; each checks its answer before it times."""

"""Mamba-1 and Mamba-2 for tree drafting: loading, states in slots, steps, prefill."""

"""The verifier: one target model, its KV cache, and whole draft trees scored in one pass."""

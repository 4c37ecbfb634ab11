"""What the bandits of several orchestrators learn, put together in Redis."""

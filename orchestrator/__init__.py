"""The draft, verify, accept loop of every request, and what it decides with. Imports no torch."""

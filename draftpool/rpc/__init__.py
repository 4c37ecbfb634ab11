"""gRPC manners, once for all services: bootstrap, health, reflection, drain, errors, request ids, metrics."""

"""What pools are scaled by, and KEDA's external scaler in front of it; see docs/scaling.md."""

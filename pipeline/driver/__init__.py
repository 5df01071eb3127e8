"""The driver: decides which stages must run, and trains folds side by side on this machine or on a Ray cluster."""

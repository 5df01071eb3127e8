"""The driver: what is up to date and why, what runs next, and the folds side by side here or on a Ray cluster."""

"""Ratios measured side by side in one run, with medians; never run as tests. `make bench` prints them."""

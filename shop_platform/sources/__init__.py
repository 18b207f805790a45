"""Where users, products, events and search logs come from: a synthetic shop, or files of yours."""

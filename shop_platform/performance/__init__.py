"""What makes the dashboard's two queries faster, by how much, at what cost, and what does nothing."""

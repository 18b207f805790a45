"""What the platform promises when something breaks, each promise with the fault injected for real."""

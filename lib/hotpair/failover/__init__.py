"""Who is active, since which epoch."""

"""Training of networks: the one loop, and the losses."""

"""Looking into a network, trained or not."""

"""Train one network: data, augmentation, the training loop, and training over several processes."""

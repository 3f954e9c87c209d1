"""One trial: data, augmentation, the training loop, and full training over processes."""

"""What a network is trained to do: labels, batches, loss, and how a split is measured."""

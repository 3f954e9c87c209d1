"""Images with annotated objects or label maps: readers, transforms, batches and evaluation."""

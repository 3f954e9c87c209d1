"""Design spaces: the cells of a grid at a budget, scaling ladders, and search domains."""

"""Design spaces: the cells of a grid at a budget, a scaling ladder, what a search may propose."""

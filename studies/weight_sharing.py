"""What does sharing weights among convolution neurons save, in parameters and in memory?

`archsearch.paper.weight_sharing` counts, predicts and measures it.
"""

from archsearch.study import About

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Section 4.4 (Fig. 4)",
    command="archsearch weight-sharing --out runs/weight-sharing",
    small="counted and predicted in closed form; --measure T --batch-size 2: under a minute",
    full="--measure T,S,B,L,XL,H on a GPU at the printed batch of 32 images at 224: minutes",
)

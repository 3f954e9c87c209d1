"""Do our counts give every size that the paper prints for this family?

`archsearch.paper.printed_sizes` counts them.
"""

from archsearch.study import About

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Tables 1 to 6, A, C, D, F and G, Section 3.2, Fig. 4",
    command="archsearch verify",
    small="a second: counted in closed form, nothing is trained",
    full="the same",
)

"""Do our counts give every size that the paper prints for this family?"""

from archsearch.paper.printed_sizes import Claim, claims
from archsearch.study import About

__all__ = ["ABOUT", "Claim", "claims"]

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Tables 1, 2, 6, A, C, D, F and G, Section 3.2, Fig. 4",
    command="archsearch verify",
    small="a second: counted in closed form, nothing is trained",
    full="the same",
)

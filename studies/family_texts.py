"""Names and texts of studies of any family; those of InternImage are the paper's."""

from archsearch.core.family import Family, family_to_dict
from archsearch.families import short_name
from archsearch.families.internimage import InternImageFamily


def is_internimage(like: Family) -> bool:
    """Whether the study is of InternImage, as the paper's are."""
    return isinstance(like, InternImageFamily)


def study_name(kind: str, like: Family) -> str:
    """``grid``, and of another family ``grid-convnext``: the default folder is named by it."""
    return kind if is_internimage(like) else f"{kind}-{short_name(type(like))}"


def source_text(like: Family, paper: str) -> str:
    """Where a study comes from: the paper, or the family's own file or module."""
    return paper if is_internimage(like) else family_to_dict(type(like))["family"]

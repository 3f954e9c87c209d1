"""Text from files, shown without what a terminal obeys: escapes, control and direction marks."""


def visible(text: str, kept: str = "\n\t") -> str:
    """``text`` with every character that does not print, but those in ``kept``, as an escape.

    ESC becomes ``\\x1b`` in four letters. Stored names, errors and commands pass through here on
    their way to a terminal.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else ascii(c)[1:-1] for c in text)

"""Pages of the documentation that are made of the code, the tables and the notebooks.

Nothing here needs Sphinx: a page is text, and the tests look at the same text that is built.
"""

from docs.pages.site import generated, stage, written

__all__ = ["generated", "stage", "written"]

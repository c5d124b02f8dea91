"""Self-contained web pages: they open from disk, fetch nothing, and hold tables, figures and before/after sliders."""

from restore.page.comparison import ComparisonPage
from restore.page.sections import Comparison, Figure, Section, Table, View, data_uri, write_page

__all__ = ["Comparison", "ComparisonPage", "Figure", "Section", "Table", "View", "data_uri", "write_page"]

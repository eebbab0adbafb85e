"""M6-Rec: one open-domain recommender for all your domains."""

__version__ = "0.1.0"

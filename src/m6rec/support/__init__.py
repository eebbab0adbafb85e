"""Customer service: answers to questions, from what a run knows; on top of the recommender."""

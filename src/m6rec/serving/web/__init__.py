"""The web page of the service: explore, onboarding, items, models, operations."""

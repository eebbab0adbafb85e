"""Models: each is a Recipe (hyper-parameters) whose fit returns a Model (frozen arrays)."""

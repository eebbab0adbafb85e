"""Which items are worth scoring: found without scoring all."""

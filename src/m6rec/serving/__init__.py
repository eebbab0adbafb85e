"""The live service: a store, a run, and what answers over HTTP."""

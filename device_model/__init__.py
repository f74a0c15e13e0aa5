"""The accelerator: what operations compute, where bytes live, and the engine that runs a graph."""

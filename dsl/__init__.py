"""The language: text to syntax tree to typed graph, with shapes, sharding and footprints."""

"""Pages made from the tables of the code: operations, blocks, codes, devices, numerics, commands, the Python API."""

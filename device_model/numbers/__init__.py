"""What a number is: formats, numerics as data, packed weights, quantisation."""

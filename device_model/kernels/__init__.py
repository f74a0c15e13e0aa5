"""What each operation computes: a plain-numpy meaning and, where it pays, a compiled twin."""

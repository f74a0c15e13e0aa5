"""A checkpoint's tensors: checked headers, mapped bytes, every tensor accounted for."""

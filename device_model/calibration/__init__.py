"""Fitted parameters of chip families as TOML, written by `sohu calibrate`. Data only."""

"""Descriptions of chips as TOML. Data only."""

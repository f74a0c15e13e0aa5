"""The time of programs, shown: profiles and sweeps."""

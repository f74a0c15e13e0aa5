"""What a port reports: data, page, plots, and files written all at once."""

"""Running notebooks: allowed parameters, folders of results, checks before the start, and the driver of `make demo`."""

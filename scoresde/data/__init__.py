"""Images, data sets and figures."""

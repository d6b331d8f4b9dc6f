"""Images, data sets, figures and distributions on the plane."""

"""Linear algebra on batches: solves, singular value decompositions, fast transforms."""

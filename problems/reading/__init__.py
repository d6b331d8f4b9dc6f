"""Readers of files that others wrote: one door for each kind, with one sentence for each fault."""

"""The page of `scoresde ui`, which restores a picture in a browser.

The page (`page.py`) and its server (`server.py`) need Gradio. What they do with a picture does not:
`choices.py` turns what a visitor chose into the options of `scoresde restore`, `work.py` restores
in a process of its own, and `jobs.py` hands orders to these processes and passes on what they
report.
"""

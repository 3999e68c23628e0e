"""The page: drop a poster, and see its genres and where the network looked.

`service` answers, within limits, and knows of no browser; `fragments` makes
HTML of the answers, `actions` and `app` the page in Gradio; `guard` lets what
the page needs through and nothing else, and `run` serves it.
"""

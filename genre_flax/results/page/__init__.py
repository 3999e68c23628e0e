"""The page: drop a poster, and see its genres and where the network looked.

`service` answers, within limits, and knows of no browser; `fragments` makes
HTML of the answers, `app` the page in Gradio, `guard` keeps what comes in and
what goes out small, and `run` serves it.
"""

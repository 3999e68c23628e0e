"""The demo: a Gradio app that shows the genres of a poster.

`service` predicts, `app` builds the Gradio interface, `limits` is middleware
for what Gradio's own settings leave open, and `__main__` has the flags.
"""

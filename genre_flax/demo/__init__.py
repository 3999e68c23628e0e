"""The demo: a Gradio app that shows the genres of a poster."""

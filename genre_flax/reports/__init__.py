"""Reports: of splits, image files and trainings.

`split_report` and `image_report` write files and print summaries; `html`
renders the HTML report of trainings.
"""

"""The report: one HTML file that shows what a run has learnt.

`write` scores nothing itself: it takes workdirs with their scored splits, works
out what to show (`facts`, `genre_rows`, `posters`, `comparison`), draws
(`charts`) and fills the templates.
"""

"""Programs that run the programs of genre_flax elsewhere, plan and sweep.

`run` describes a job, checks it (`check`) and submits it to an engine
(`engines`). `plan` compiles a training step for a TPU slice, and `sweep`
searches the values of config keys.
"""

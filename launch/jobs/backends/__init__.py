"""The ways to get machines, one file each.

`registry` names them; `base` is what all of them can do; `worker` reads what
launch/jobs/worker.sh says on each host.
"""

"""From a workdir to what people look at and take away.

`predict` restores a network, `meta` checks what it says of itself; `summary`
reports on a split, `image_files` names the genres of files, `follow` goes along
with a training. `export` hands a network on.
"""

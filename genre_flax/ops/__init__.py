"""Operations of the networks. `ops.cpu` contains their CPU kernels."""

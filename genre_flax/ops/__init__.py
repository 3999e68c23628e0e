"""Operations of the networks; ops.cpu has their CPU kernels."""

"""Jobs on slices and machines: launch them, plan them, sweep them."""

"""Attribution maps: Grad-CAM and occlusion."""

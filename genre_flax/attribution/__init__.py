"""Attribution maps: the parts of a poster that contribute to a prediction."""

"""Sweeps over config keys, as Optuna studies that workers share."""

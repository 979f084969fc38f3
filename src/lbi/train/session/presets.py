"""Defaults of a training run per data set and optimizer (docs/results.md says how they were chosen)."""

from __future__ import annotations

from typing import Any

_SPOKEN: dict[str, dict[str, Any]] = {
    "": {
        "hidden": (256,),
        "recurrent": True,
        "current_decay": (0.3, 0.39, 0.6),
        "voltage_decay": (0.1, 0.22, 0.5),
        "output_current_decay": 0.39,
        "output_voltage_decay": 0.22,
        "gain": 1.0,
        "dropout": 0.1,
        "channel_jitter": 8.0,
        "time_shift": 4,
        "epochs": 50,
        "initial_density": 1.0,
    },
    "adam": {"lr": 1e-2},
    "adabreg": {"lr": 1e-2},
    "adabreg, few": {"lr": 2e-2, "schedule": "settled", "average": 0.005},
    "linbreg": {"lr": 0.1},
    "linbreg, few": {"schedule": "settled", "average": 0.005},
}

_PIXELS: dict[str, dict[str, Any]] = {
    "": {
        "hidden": (256,),
        "recurrent": True,
        "recurrent_delay": 20,
        "encoding": {"code": "on_off"},
        "current_decay": (0.6,),
        "voltage_decay": (0.5,),
        "output_voltage_decay": 0.1,
        "gain": 1.0,
        "slope": 8.0,
        "batch_size": 32,
        "epochs": 100,
        "lr": 1e-2,
        "settle": 0.5,
        "schedule": "settled",
        "average": 0.005,
    },
    "adam": {"lr": 5e-3},
    "adabreg": {"initial_density": 1.0, "shrink": 0.3},
    "adabreg, few": {"shrink": 0.6, "settle": 0.4},
    "linbreg": {"lr": 0.03, "initial_density": 1.0, "shrink": 0.3},
}

_LONG: dict[str, Any] = {
    "hidden": (512,),
    "recurrent_delay": 62,
    "recurrent_delay_from": 15,
    "encoding": {"code": "thermometer"},
    "neuron": "atrlif",
    "current_decay": (0.6, 0.6, 0.6),
    "voltage_decay": (0.5, 0.2, 0.05),
    "neuron_options": {"threshold_decay": 0.003, "threshold_step": 0.2},
    "readout": "membrane_last",
    "output_voltage_decay": 0.05,
    "slope": 16.0,
    "batch_size": 256,
    "clip": 100.0,
    "epochs": 52,
    "initial_density": 1.0,
}
"""Of psmnist, beyond those of psdigits: memory over 784 steps."""

_IMAGES: dict[str, dict[str, Any]] = {
    "": {
        "hidden": ("16c3", "p2", "32c3", "p2", 128),
        "current_decay": (1.0,),
        "voltage_decay": (0.1,),
        "output_voltage_decay": 0.05,
        "threshold": 0.4,
        "readout": "membrane_mean",
        "epochs": 10,
        "initial_density": 1.0,
        "shrink": 0.5,
        "settle": 0.3,
    },
    "adam": {"lr": 2e-3},
    "adabreg": {"lr": 4e-3},
}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "digits": {"": {}, "adam": {"lr": 5e-3}},
    "mnist": _IMAGES,
    "psdigits": _PIXELS,
    "psmnist": {**_PIXELS, "": {**_PIXELS[""], **_LONG}, "adam": {}, "adabreg": {}, "adabreg, few": {}},
    "shd": _SPOKEN,
    "ssc": {**_SPOKEN, "": {**_SPOKEN[""], "channel_jitter": 2.0}},
}
"""Data set → optimizer ("" for all; "…, few": at density ``FEW`` or less) → defaults that differ from those of ``TrainConfig``.

Those of ssc have not been tried.
"""

FEW = 0.05
"""Density up to which a data set's settings for few weights apply."""

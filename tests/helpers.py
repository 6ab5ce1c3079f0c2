"""Flags of a training that takes a second."""

QUICK = {
    "base_models": "demo_convnext",
    "no_pretrained": None,
    "freeze_weights": "true",
    "epochs": 2,
    "warmup_epochs": 1,
    "batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
    "device": "cpu",
    "precision": "fp32",
}


def flags(**values) -> list[str]:
    """Write keyword arguments as flags; None is a flag without a value, False leaves it out."""
    words = []
    for name, value in ((name, value) for name, value in values.items() if value is not False):
        words.append(f"--{name}")
        items = value if isinstance(value, list) else [value]
        words += [str(item) for item in items if item is not None]
    return words

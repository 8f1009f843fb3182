"""Parameters that architectures of several families must not draw at random: each takes a name and the drawn value."""

import numpy as np


def rounded_norms(name: str, value: np.ndarray) -> np.ndarray:
    """Norms that are published as one less than what they stand for: values to which one can be added in any type."""
    return np.round(value * 128) / np.float32(128) if name.endswith("norm.weight") else value


def positive_corrections(name: str, value: np.ndarray) -> np.ndarray:
    """Corrected scores above zero, for which it does not matter whether those of other groups become zero or −∞."""
    return np.abs(value) if name.endswith(("e_score_correction_bias", "expert_bias")) else value


def negative_corrections(name: str, value: np.ndarray) -> np.ndarray:
    """Corrected scores below zero."""
    return value - np.float32(1.25) if name.endswith("e_score_correction_bias") else value


def unstacked(stacked: dict[str, str]):
    """Experts one by one: `stacked` has the name of a stacked projection, and that of one expert's below `experts.N`."""

    def published(tensors, config):
        result = {}
        for name, tensor in tensors.items():
            path, _, kind = name.rpartition(".")
            found = next((part for part in stacked if path.endswith(f".{part}")), None)
            if found is None or tensor.dim() < 3:
                result[name] = tensor
                continue
            block = path.removesuffix(found)
            for index, expert in enumerate(tensor):
                result[f"{block}experts.{index}.{stacked[found]}.{kind}"] = expert.contiguous()
        return result

    return published

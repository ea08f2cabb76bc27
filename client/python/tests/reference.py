"""The sketch and the edge's readings from their definitions, in float64 numpy: nothing of ours is used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MASK = (1 << 64) - 1


def mix(z: int) -> int:
    z = (z + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def fnv1a(name: str) -> int:
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = ((key ^ byte) * 0x100000001B3) & MASK
    return key


def sketch(tensors: dict[str, Array], d: int, seed: int) -> Array:
    """The sketch of a group of tensors."""
    signs = np.array([-1.0 if mix(mix(seed) ^ j) >> 63 else 1.0 for j in range(d)])
    y = np.zeros(d)
    for name, tensor in tensors.items():
        key = mix(seed ^ fnv1a(name))
        flat = tensor.reshape(-1)
        for c in range(-(-flat.size // d)):
            chunk = np.zeros(d)
            part = flat[c * d : (c + 1) * d]
            chunk[: part.size] = part
            z = mix(key ^ c)
            y += np.roll((-1.0 if z >> 63 else 1.0) * signs * chunk, z % d)
    return y


def edge(rows: Array) -> dict[str, float | int | list[float]]:
    """Readings of a full window: the newest row last."""
    w = len(rows)
    lam = np.sort(np.linalg.eigvalsh(rows @ rows.T))[::-1].clip(0.0)
    lam[lam <= w * 1e-14 * lam[0]] = 0.0
    sigma = np.sqrt(lam)
    count = min(int((lam > 0).sum()), w - 1)
    ratio = sigma[:count] / sigma[1 : count + 1]
    position = int(np.argmax(sigma[:count] / sigma.sum() * ratio))
    return {
        "sigma": sigma.tolist(),
        "position": position + 1,
        "ratio": float(ratio[position]),
        "ratio_1": float(ratio[0]),
        "gap": float(sigma[position] - sigma[position + 1]),
        "drift": float(np.linalg.norm(rows.mean(0))),
        "update_norm": float(np.linalg.norm(rows[-1])),
    }

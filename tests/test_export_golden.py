"""Exports that older versions wrote are read for ever: their digests stand here, with what they gave.

`tools/golden_export.py` adds folders and prints their lines; none is ever changed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa.exports.operations import OPERATIONS
from proa.io import load_file

FOLDER = Path(__file__).parent / "golden" / "export"
DIGESTS = {
    "control/expected.safetensors": "17ff85b22feff6c95f8113943f59bacd19d480a158a32d37e08894e5c7863047",
    "control/function/graph.json": "b6abad9f65072aa6bd3df33a96f844aaea11d0a5162d33a47fa3a03a8a0b41ea",
    "control/function/weights.safetensors": "9e8633b1a6f320123fe8334e92610c870dee3d15ad26688a9f2e3d00ad3f0cfd",
    "conv/expected.safetensors": "026b2a196c2c64886e434406f33e538734783e8862e7208280c2805097a7ae7f",
    "conv/function/graph.json": "4c05a2a655add45d8579b09f059951583763590c9d3fffc5f791b5b2c51a9982",
    "conv/function/weights.safetensors": "dca9950ceb47b6702e28342b5f8eb75438a7cd032d4bc09c4979045c4cacc584",
    "custom/expected.safetensors": "fab4735cd62cf5594a63631f6f3c5184bed174ff831fb5640ddbe5928204f360",
    "custom/function/graph.json": "b6ee2f944d4336a73a1539956dba678567248125c9c84d7de5218c5cf99834a3",
    "custom/function/weights.safetensors": "9bbcbf73561f6bc5d0a17ea6a2081feed2d1304e87602d8c502d9a5c4bd85576",
    "gradient/expected.safetensors": "58dfea0cf142751583ebdf18a41f140438b53db8add0aead53bec884b48be642",
    "gradient/function/graph.json": "85747d9390e7afb9ac1258317eb027f9fea81c26bcaf3804eb8578efdb2ad0d7",
    "gradient/function/weights.safetensors": "c3d6a57adc03dcbe0b5b2f7596c792d5ee463c23efea28a8d62cc15ce85ca431",
    "half/expected.safetensors": "2ef145cf4296226ef30941dd8c219f6f6b65720dad386fdbab1452396a14b0e9",
    "half/function/graph.json": "dcbde10ed88c58030c02b58c2c9eaac0c6640ab9ac7ce51d573a9c1484db58c4",
    "half/function/weights.safetensors": "9bbcbf73561f6bc5d0a17ea6a2081feed2d1304e87602d8c502d9a5c4bd85576",
    "mlp/expected.safetensors": "4584c1cbdb09f80d2ab52e9139b0fae058972c4a2c6a09c511a671d3fbcca050",
    "mlp/function/graph.json": "c3808d989317b413da61f289d1f8d34ae9a167a11f62d86ac6a6299855b66d5c",
    "mlp/function/weights.safetensors": "936bf3c644d00b23a1c2c400fa1e76aaae48af408a04a1dfa49db4adcf79c8d4",
    "operations/expected.safetensors": "a1de8c8f78db96fe69eb7d2f4f7dde53bb00a1290c8e20b0fd79a17925d8b349",
    "operations/function/graph.json": "8d9493e74994e7c3c70b8d8bf6a219a34ffd235de61ddeef613d83a26f444725",
    "operations/function/weights.safetensors": "c5972bf1572cb1a92d0ca2b6fc50598a36863c81d120296274661691a41a4a98",
    "operations_2/expected.safetensors": "fd56390528223ebee5261a6634fe86d53e965850d2d50a5ac3addb1905e57207",
    "operations_2/function/graph.json": "9b3da904aa309a94b02271908c67f82598d069a92ffd425be68f67676028303a",
    "operations_2/function/weights.safetensors": "9bbcbf73561f6bc5d0a17ea6a2081feed2d1304e87602d8c502d9a5c4bd85576",
    "random/expected.safetensors": "9d03de86e902f98dc18116f8ad498d1e45b7f07af1fce7a9efe92aa5456e6ac3",
    "random/function/graph.json": "c7c836e1707ce9f06e1257b43e97dab702f9f778dcc143f488d30334c3c60e22",
    "random/function/weights.safetensors": "9bbcbf73561f6bc5d0a17ea6a2081feed2d1304e87602d8c502d9a5c4bd85576",
    "transformer/expected.safetensors": "c8363dcbd2b0335f4f8837380df91c3f7f0849487cd8569802c3680d0228258e",
    "transformer/function/graph.json": "af445af15c40aac10aba353c1c1ed3def01be14f2483020802340a7915cf53b2",
    "transformer/function/weights.safetensors": "20b716799b97f4937146dab38b3e8191f0577b4c1f03ee9c95642ad961878e2c",
    "tree/expected.safetensors": "89de29c12bf883339f6dd45b1b21a3c7636c82c21f3103eb76ed386c53da65a8",
    "tree/function/graph.json": "4a8df7d449753a3e7f0af0bf5d06785cab85bb3670e853807d20484bd0ef68d1",
    "tree/function/weights.safetensors": "9bbcbf73561f6bc5d0a17ea6a2081feed2d1304e87602d8c502d9a5c4bd85576",
}
NAMES = sorted({path.split("/")[0] for path in DIGESTS})


def test_no_file_was_changed_or_lost() -> None:
    found = {
        str(file.relative_to(FOLDER)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in FOLDER.rglob("*") if file.is_file()
    }  # fmt: skip
    assert found == DIGESTS


def test_every_listed_operation_stands_in_one_of_them() -> None:
    text = "".join([(FOLDER / n / "function" / "graph.json").read_text() for n in NAMES])
    internal = {"call", "class_loss", "class_score", "two_class_loss"}  # of derivatives of losses
    missing = [n for n in OPERATIONS if f'"operation": "{n}"' not in text]
    assert set(missing) <= internal


@pytest.mark.parametrize("device", ["cpu", "numpy"])
@pytest.mark.parametrize("name", NAMES)
def test_it_gives_what_it_gave(name: str, device: str) -> None:
    function = pa.load(FOLDER / name / "function", device=device)
    stored = load_file(FOLDER / name / "expected.safetensors", device=device)
    given = [stored[f"given.{i}"] for i in range(len(function.inputs))]
    rest = iter(given)
    trees = {name: form.filled(rest) for name, form in function.signature.arguments}
    found = [
        t for t in pa.tree.flatten(function(**trees))[0] if isinstance(t, pa.Tensor)
    ]  # fmt: skip
    expected = [stored[f"found.{i}"] for i in range(len(found))]
    assert len(stored) == len(given) + len(found)
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.dtype is b.dtype and a.shape == b.shape, (name, i)
        close(a, b, f"{name} {i}")


def close(a: Any, b: Any, what: str) -> None:
    """Whole numbers are equal, others within some units in the last place of what is large."""
    if not a.dtype.is_float:
        assert a.tolist() == b.tolist(), what
        return
    bound = {16: 2e-2 if a.dtype is pa.bfloat16 else 2e-3, 32: 1e-5, 64: 1e-12}[a.dtype.bits]
    x, y = a.numpy().astype(np.float64), b.numpy().astype(np.float64)
    scale = np.abs(y[np.isfinite(y)]).max(initial=1.0)
    np.testing.assert_allclose(x, y, rtol=bound, atol=bound * scale, err_msg=what)


def test_other_sizes_and_gradients_of_old_files() -> None:
    mlp = pa.load(FOLDER / "mlp" / "function")
    assert mlp(pa.ones((7, 6))).shape == (7, 3)
    assert list(mlp.weights) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    custom = pa.load(FOLDER / "custom" / "function")
    assert pa.grad(lambda x: custom(x).sum())(pa.asarray([2.0])).tolist() == [6.0]
    control = pa.load(FOLDER / "control" / "function")
    assert control(pa.ones((2, 4)), pa.asarray(0, dtype=pa.int32))["sums"].shape == (2,)

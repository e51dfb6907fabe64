"""A BERT run by torch: on a GPU, in bf16, and where its make is not that of `bert_graph`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crosyslog.encoders.bert_config import misfit
from crosyslog.encoders.saved_bert import digest, is_needed, unknown
from crosyslog.errors import EncoderError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from crosyslog.encoders.bert_encoder import Forward
    from crosyslog.encoders.saved_bert import Pooling, SavedBert


def load_torch(bert: SavedBert, precision: str, device: str) -> tuple[Forward, str]:
    """What runs a BERT, and the digest of its weights.

    Raises:
        EncoderError: the weights are not there, not whole or of other sizes than the configuration
            names, or it cannot run in int8.
    """
    if precision == "int8":
        raise EncoderError(
            f"the encoder {bert.name!r} cannot run in int8, which is for BERTs of the usual "
            "make: set encoder.precision=fp32"
        )
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel

    from crosyslog.threads import torch_threads

    try:
        # In float32 whatever it was saved in: the numeric class is ours to choose.
        model, loading = AutoModel.from_pretrained(
            bert.folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise unknown(bert.name) from error
    except RuntimeError as error:
        raise misfit(bert.name) from error
    # What is missing was drawn at random: often the pooler, which is not used here.
    missing = set(loading["missing_keys"])
    if any(is_needed(name) for name in missing):
        raise unknown(bert.name)
    model.eval().to(device)
    name = digest(
        {
            key: tensor.float().cpu().numpy()
            for key, tensor in model.state_dict().items()
            if key not in missing
        }
    )
    threads = torch.get_num_threads()
    autocast = torch.autocast(
        torch.device(device).type, dtype=torch.bfloat16, enabled=precision == "bf16"
    )

    def forward(ids_BL: NDArray[np.int64], mask_BL: NDArray[np.int64]) -> NDArray[np.float32]:
        # The callers compute their small models with one thread: a BERT uses them all.
        with torch_threads(threads), torch.inference_mode(), autocast:
            mask = torch.from_numpy(mask_BL).to(device)
            hidden_BLD = model(
                input_ids=torch.from_numpy(ids_BL).to(device), attention_mask=mask
            ).last_hidden_state
        with torch_threads(threads), torch.inference_mode():
            # Where it was computed: a vector a token would take longer to come here than to make.
            pooled_BD = _pooled(hidden_BLD.float(), mask, bert.pooling)
            return np.asarray(pooled_BD.cpu().numpy(), dtype=np.float32)

    return forward, name


def _pooled(hidden_BLD: Tensor, mask_BL: Tensor, pooling: Pooling) -> Tensor:
    """One unit vector [B, D] a text, of those of its tokens."""
    import torch

    mask_BL1 = mask_BL[:, :, None]
    if pooling == "cls":
        pooled_BD = hidden_BLD[:, 0]
    elif pooling == "max":
        pooled_BD = hidden_BLD.masked_fill(mask_BL1 == 0, -torch.inf).amax(dim=1)
    else:
        weights_BL1 = mask_BL1.float()
        pooled_BD = (hidden_BLD * weights_BL1).sum(dim=1) / weights_BL1.sum(dim=1)
    return torch.nn.functional.normalize(pooled_BD, dim=1, eps=1e-12)

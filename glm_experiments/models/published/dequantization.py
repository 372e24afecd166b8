"""The published int8 and int4 weights of ChatGLM, back to floating point.

The scheme (`quantization.py` beside the published checkpoints): every output row of a linear has
one fp16 `weight_scale`; int8 stores the rounded quotients, int4 packs two columns a byte, the even
column in the high nibble, both signed. The value is quotient times scale.
"""

import ctypes

import torch

METHODS = ("torch", "cpm_kernels")
SCALE_SUFFIX = "_scale"
_PIECE_ROWS = 1024
OLDEST_CAPABILITY, NEWEST_CAPABILITY = (6, 1), (8, 6)


def unpack_int4(packed: torch.Tensor) -> torch.Tensor:
    """int8 (rows, columns / 2), two signed nibbles a byte -> int8 (rows, columns)."""
    packed = packed.view(torch.int8)
    # Shifts of int8 keep the sign: the low nibble goes through the high place to get its own.
    even, odd = packed >> 4, (packed << 4) >> 4
    return torch.stack((even, odd), dim=-1).flatten(-2)


def dequantize_weight(
    weight: torch.Tensor, scale: torch.Tensor, *, bits: int, dtype: torch.dtype, method: str
) -> torch.Tensor:
    """Quantised (rows, columns * bits / 8) and fp16 (rows,) -> `dtype` (rows, columns).

    An 8-bit quotient times an 11-bit scale is exact in fp32, so there is one rounding, to `dtype`:
    for float16 what the published kernels compute, for float32 the exact value.

    Raises:
        RuntimeError: `method` is cpm_kernels and the weight's device is not for it.
    """
    scale_rows = _scale_rows_with_cpm_kernels if method == "cpm_kernels" else _scale_rows
    values = torch.empty(
        weight.shape[0], weight.shape[1] * 8 // bits, dtype=dtype, device=weight.device
    )
    # In pieces, so that the steps between take little memory beside the values.
    pieces = zip(*(torch.split(part, _PIECE_ROWS) for part in (values, weight, scale)), strict=True)
    for rows, packed, scales in pieces:
        rows.copy_(scale_rows(unpack_int4(packed) if bits == 4 else packed, scales))
    return values


def check_cpm_kernels(device: torch.device) -> None:
    """Refuse a device for which cpm_kernels 1.0.11 has no machine code, before anything is read.

    Raises:
        RuntimeError: naming the device and the reason.
    """
    advice = "leave `dequantize` at torch, which runs on every device and gives the same weights"
    if device.type != "cuda":
        raise RuntimeError(
            f"dequantize=cpm_kernels needs a CUDA device, and the weights go to {device}; {advice}"
        )
    capability = torch.cuda.get_device_capability(device)
    if problem := cpm_kernels_problem(capability):
        raise RuntimeError(
            f"dequantize=cpm_kernels cannot run on {torch.cuda.get_device_name(device)} "
            f"({device}): {problem}; {advice}"
        )
    _import_gemm()


def cpm_kernels_problem(capability: tuple[int, int]) -> str | None:
    """Why cpm_kernels has no kernel for a compute capability, or None."""
    if OLDEST_CAPABILITY <= capability <= NEWEST_CAPABILITY:
        return None
    return (
        "cpm_kernels 1.0.11 has machine code for compute capability 6.1 to 8.6 only and no PTX to "
        f"compile for others; this device has {capability[0]}.{capability[1]}"
    )


def _scale_rows(quotients: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return quotients.float().mul_(scale.float().unsqueeze(-1))


def _import_gemm() -> object:
    """cpm_kernels' matrix kernels; importing them needs CUDA's libraries and setuptools."""
    try:
        from cpm_kernels.kernels import gemm
    except (ImportError, OSError, RuntimeError) as error:
        raise RuntimeError(
            f"dequantize=cpm_kernels: importing cpm_kernels failed ({error}); it needs CUDA's "
            "libraries on the library path and `pip install 'setuptools<81'`; or leave "
            "`dequantize` at torch"
        ) from error
    return gemm


def _scale_rows_with_cpm_kernels(quotients: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """int8 (rows, columns), fp16 (rows,) -> fp16 (rows, columns) with `cu_gemm_scale_x`.

    The package's own kernel for "int32 matrix times one fp16 scale a row". It has none for the
    packed nibbles (those came compiled inside the published model code), so torch unpacks them.
    """
    gemm = _import_gemm()
    rows, columns = quotients.shape
    matrix = quotients.to(torch.int32).contiguous()
    row_scale = scale.to(torch.float16).contiguous()
    out = torch.empty(rows, columns, dtype=torch.float16, device=quotients.device)
    with torch.cuda.device(quotients.device):
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        gemm.gemm_scale_x(  # type: ignore[attr-defined]
            1, rows, columns, matrix.data_ptr(), row_scale.data_ptr(), out.data_ptr(), stream
        )
    return out

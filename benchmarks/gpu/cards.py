"""What NVIDIA's cards can do, by the names that CUDA gives them; how much to try on one."""

# Operations a second of dense bfloat16 products, or float16 where a card has no bfloat16 (V100,
# T4): NVIDIA's published peaks, compared in November 2026 with tables that others made of its data
# sheets. The sheets of Ampere and later cards also, or only, state twice as many "with sparsity".
PEAK_FLOPS = {
    "NVIDIA B200": 2250e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA L4": 121e12,
    "Tesla V100-SXM2-32GB": 125e12,
    "Tesla V100-SXM2-16GB": 125e12,
    "Tesla T4": 65e12,
}

# A little less than an image needs in ResNet-50's step, by `train.remat`: with `none` 106 MiB in a
# TPU's program (docs/scaling.md), with `block` about half.
IMAGE_BYTES = {"none": 96 * 2**20, "block": 48 * 2**20}


def first_batch(memory: int, remat: str = "none") -> int:
    """The batch to try first: the largest power of two if an image took only IMAGE_BYTES."""
    return 2 ** ((memory // IMAGE_BYTES[remat]).bit_length() - 1)

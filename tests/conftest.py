"""What every test shares: no network beyond loopback, no tracker that phones home."""

import os

# Both cores already work inside torch; tokenizers' own pool only adds fork warnings.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")

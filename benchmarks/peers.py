"""What the two originals compute, in PyTorch, for the benchmarks; needs the extra [peers].

Written from their description: FFTNet (arXiv 2502.18394 and its code) and the causal STFT FNet. The
names of parameters are the originals', so that their state dicts load. CPU, float32, all cores allowed.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from benchmarks.timing import Contender, cores
from fftnet_jax.config import Config, ModelConfig

torch.set_num_threads(cores())


class CausalSTFT(nn.Module):
    """Original B's mixer: all windows, FFT2, real part, one dense map: (B, N, D) → (B, N, D)."""

    def __init__(self, width: int, window: int):
        super().__init__()
        self.window = window
        self.projection = nn.Linear(window * width, width)

    def forward(self, x_BND):
        w_BNWD = functional.pad(x_BND, (0, 0, self.window - 1, 0)).unfold(1, self.window, 1).transpose(2, 3)
        return self.projection(torch.fft.fft2(w_BNWD).real.flatten(2))


class FFTNet(nn.Module):
    """Original A's mixer, full complex FFT: (B, N, D) → (B, N, D)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.adaptive_filter = nn.Module()
        self.adaptive_filter.W_base = nn.Parameter(torch.ones(1, 1, width))
        self.adaptive_filter.mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.modrelu = nn.Module()
        self.modrelu.bias = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, u_BND):
        gain_B1D = self.adaptive_filter.W_base + self.adaptive_filter.mlp(u_BND.mean(dim=1, keepdim=True))
        Z_BND = torch.fft.fft(u_BND, dim=1) * gain_B1D
        magnitude = Z_BND.abs()
        Z_BND = torch.relu(magnitude + self.modrelu.bias) * Z_BND / (magnitude + 1e-10)
        return torch.fft.ifft(Z_BND, dim=1).real


class FusedAttention(nn.Module):
    """Causal attention with PyTorch's fused kernel and four heads, without positions: (B, N, D) → (B, N, D)."""

    def __init__(self, width: int, num_heads: int = 4):
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x_BND):
        q, k, v = self.qkv(x_BND).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        y_BHNK = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y_BHNK.transpose(1, 2).flatten(2))


class CausalSTFTFNet(nn.Module):
    """Original B: token ids (B, N) → logits (B, N, V)."""

    def __init__(self, vocab, width, layers, hidden, window, length, dropout=0.0):
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.word_embeddings = nn.Embedding(vocab, width)
        self.embeddings.pos_embeddings = nn.Embedding(length, width)
        self.embeddings.norm = nn.LayerNorm(width, eps=1e-12)
        self.encoder = nn.ModuleList(self._block(width, hidden, window) for _ in range(layers))
        self.lm_head = nn.Linear(width, vocab, bias=False)
        self.dropout = nn.Dropout(dropout)

    @staticmethod
    def _block(width, hidden, window):
        block = nn.Module()
        block.causal_stft = CausalSTFT(width, window)
        block.ffn = nn.Module()
        block.ffn.dense1, block.ffn.dense2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        block.norm1, block.norm2 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)
        return block

    def forward(self, ids_BN):
        e = self.embeddings
        x_BND = e.word_embeddings(ids_BN) + e.pos_embeddings.weight[: ids_BN.shape[1]]
        x_BND = self.dropout(e.norm(x_BND))
        for block in self.encoder:
            x_BND = block.norm1(x_BND + block.causal_stft(x_BND))
            x_BND = block.norm2(x_BND + self.dropout(block.ffn.dense2(functional.gelu(block.ffn.dense1(x_BND)))))
        return self.lm_head(x_BND)


class FFTNetLayer(FFTNet):
    """Original A's layer: LN(x + dropout(mixer(LN(x))))."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__(width, hidden)
        self.input_norm, self.output_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BND):
        return self.output_norm(x_BND + self.dropout(super().forward(self.input_norm(x_BND))))


class FFTNetModel(nn.Module):
    """Original A: token ids (B, N) → logits (B, N, V)."""

    def __init__(self, vocab, width, layers, hidden, dropout=0.0):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.layers = nn.ModuleList(FFTNetLayer(width, hidden, dropout) for _ in range(layers))
        self.output_norm, self.output_proj = nn.LayerNorm(width), nn.Linear(width, vocab)

    def forward(self, ids_BN):
        x_BND = self.embedding(ids_BN) * math.sqrt(self.embedding.embedding_dim)
        x_BND = x_BND + self._positions(*x_BND.shape[1:])
        for layer in self.layers:
            x_BND = layer(x_BND)
        return self.output_proj(self.output_norm(x_BND))

    @staticmethod
    def _positions(length, width):
        frequency_F = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
        angle_NF = torch.arange(length)[:, None] * frequency_F
        return torch.stack([angle_NF.sin(), angle_NF.cos()], dim=2).flatten(1)


def build_model(m: ModelConfig) -> nn.Module:
    """The original whose computation a configuration of ours describes."""
    if m.mixer == "fftnet":
        return FFTNetModel(m.vocab_size, m.width, m.num_layers, m.filter_width, m.dropout)
    return CausalSTFTFNet(m.vocab_size, m.width, m.num_layers, m.ffn_width, m.window, m.max_length, m.dropout)


def mixer_contender(module: nn.Module, batch: int, length: int, width: int) -> Contender:
    """Forward and backward, gradients to parameters and input."""
    x_BND = torch.randn(batch, length, width, requires_grad=True)
    dy_BND = torch.randn(batch, length, width)

    def run():
        module.zero_grad(set_to_none=True)
        x_BND.grad = None
        module(x_BND).backward(dy_BND)

    return Contender(run, held=_nbytes([*module.parameters(), x_BND, dy_BND]))


def step_contender(config: Config) -> Contender:
    """A whole train step: forward, mean cross-entropy, backward, clipping if any, AdamW."""
    torch.manual_seed(0)
    model, t = build_model(config.model), config.training
    betas = (t.beta1, t.beta2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=t.learning_rate, betas=betas, weight_decay=t.weight_decay)
    ids_BN = torch.randint(config.model.vocab_size, (config.data.batch_size, config.data.length))

    def run():
        optimizer.zero_grad()
        functional.cross_entropy(model(ids_BN).flatten(0, 1), ids_BN.flatten()).backward()
        if t.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), t.clip_norm)
        optimizer.step()

    return Contender(run, held=_nbytes(model.parameters()))


def generation_contender(config: ModelConfig, context: int) -> Contender:
    """One greedy token, by recomputing the whole sequence of `context` tokens."""
    model = build_model(config).eval()
    ids_BN = torch.randint(config.vocab_size, (1, context))

    def run():
        with torch.no_grad():
            return int(model(ids_BN)[:, -1].argmax())

    return Contender(run, held=_nbytes(model.parameters()))


def _nbytes(tensors):
    return sum(tensor.nbytes for tensor in tensors)

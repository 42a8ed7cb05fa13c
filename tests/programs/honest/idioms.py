"""Honest programs in the habits of language models: names for device and dtype, masks in buffers, text in errors.

Several of these were refused once; an idiom is no cheat.
"""

from __future__ import annotations

from programs.build import CD, MM, TTR, Program, program

_QK = "self.split_heads(self.query(x)) / math.sqrt(self.head_width), self.split_heads(self.key(x))"


def _mm(parts: str, **more: str) -> Program:
    return Program(MM, program(MM, parts, **more))


PROGRAMS = {
    "device and dtype by name": _mm(
        """
        def matrix(self, q, k):
            tokens, device, dtype = q.shape[-2], q.device, q.dtype
            like = dict(device=device, dtype=dtype)
            position = torch.arange(tokens, **like)
            slope = torch.linspace(0.01, 0.5, self.heads, **like)[:, None, None]
            bias = -slope * (position[:, None] - position[None, :]).clamp(min=0)
            return torch.softmax(forbid_future(q @ k.mT) + bias, -1)
        """
    ),
    "mask compared where it is made": _mm(
        """
        def mask(self, tokens, device):
            return torch.arange(tokens, device=device)[:, None] >= torch.arange(tokens, device=device)[None, :]

        def matrix(self, q, k):
            score = (q @ k.mT).masked_fill(~self.mask(q.shape[-2], q.device), float("-inf"))
            return torch.softmax(score, dim=-1)
        """
    ),
    "mask in a buffer, lengths asserted": _mm(
        """
        def matrix(self, q, k):
            *_, tokens, width = q.shape
            assert width == self.head_width, f"head width {width}, not {self.head_width}"
            past = self.past if tokens <= 256 else causal_mask(tokens, q)
            score = torch.einsum("...tn,...sn->...ts", q, k)
            return torch.softmax(score.masked_fill(~past[:tokens, :tokens], float("-inf")), dim=-1)
        """,
        init='self.register_buffer("past", torch.tril(torch.ones(256, 256, dtype=torch.bool)), persistent=False)',
    ),
    "maps by name": _mm(
        """
        def __init__(self, width, heads):
            super().__init__(width, heads)
            self.maps = nn.ModuleDict({f"map {name}": nn.Linear(width, width, bias=False) for name in ("q", "k")})

        def generators(self, x):
            query, key = (self.split_heads(self.maps[name](x)) for name in ("map q", "map k"))
            return query / math.sqrt(self.head_width), key
        """
    ),
    "least number of the precision": _mm(
        """
        def matrix(self, q, k):
            weight = keep_past(F.relu(q @ k.mT))
            total = weight.sum(-1, keepdim=True)
            small = torch.finfo(total.dtype).eps
            return torch.where(total > small, weight / total.clamp(min=small), torch.zeros_like(weight))
        """
    ),
    "attention sink": _mm(
        """
        def matrix(self, q, k):
            score = forbid_future(q @ k.mT)
            top = score.amax(-1, keepdim=True).clamp(min=0).detach()
            weight = torch.exp(score - top)
            return weight / (weight.sum(-1, keepdim=True) + torch.exp(self.sink.to(q.dtype)[:, None, None] - top))
        """,
        init="self.sink = nn.Parameter(torch.zeros(heads))",
    ),
    "unnormalised sums that grow": _mm(
        "def matrix(self, q, k):\n    return keep_past(q @ k.mT) * 4.0",
        declaration='Declaration(structure="low_rank")',
    ),
    "complex rotation as a state space": _mm(
        """
        def generators(self, x):
            lag = torch.arange(x.shape[-2], device=x.device, dtype=x.dtype)
            wave = torch.polar(torch.ones_like(self.pitch), self.pitch).to(torch.complex64)
            rate = torch.exp(-F.softplus(self.rate)[:, None] * lag) * torch.cos(self.pitch[:, None] * lag)
            return (rate.to(x.dtype).expand(*x.shape[:-2], self.heads, len(lag)), wave.abs().mean())

        def matrix(self, taps, size):
            place = torch.arange(taps.shape[-1], device=taps.device)
            return taps[..., (place[:, None] - place[None, :]).clamp(min=0)] * size.to(taps.dtype)
        """,
        init="self.rate = nn.Parameter(torch.linspace(-3, 0, heads))\nself.pitch = nn.Parameter(torch.ones(heads))",
        declaration='Declaration(structure="toeplitz", data_dependent=False)',
    ),
    "strided heads": _mm(
        """
        def matrix(self, q, k):
            tokens = q.shape[-2]
            lag = torch.arange(tokens, device=q.device)[:, None] - torch.arange(tokens, device=q.device)
            seen = torch.stack([(lag % (head + 1) == 0) | (lag < 4) for head in range(self.heads)]) & (lag >= 0)
            return torch.softmax((q @ k.mT).masked_fill(~seen, -torch.inf), -1)
        """
    ),
    "recent mean as a key": _mm(
        """
        def generators(self, x):
            count = torch.arange(1, x.shape[-2] + 1, device=x.device, dtype=x.dtype)[:, None]
            mean = x.cumsum(-2) / count
            return self.split_heads(self.query(x)) / math.sqrt(self.head_width), self.split_heads(self.key(x - mean))
        """
    ),
    "chunks with a carried state": _mm(
        """
        def generators(self, x):
            return F.elu(self.split_heads(self.query(x))) + 1, F.elu(self.split_heads(self.key(x))) + 1

        def matrix(self, q, k):
            return keep_past(q @ k.mT) / 64.0

        def multiply(self, g, v):
            q, k = g
            state, rows = torch.zeros_like(k[..., :1, :].mT @ v[..., :1, :]), []
            for a, b, c in zip(q.split(16, -2), k.split(16, -2), v.split(16, -2)):
                rows.append(keep_past(a @ b.mT) @ c + a @ state)
                state = state + b.mT @ c
            return torch.cat(rows, -2) / 64.0
        """,
        declaration='Declaration(structure="low_rank")',
    ),
    "settings in a tuple": Program(
        CD,
        program(
            CD,
            """
            def queries(self, x):
                scale, mode = self.SETTINGS
                query = self.split_heads(self.query(x))
                return query * scale if mode == "scaled" else query
            """,
            body='SETTINGS = (0.25, "scaled")',
        ),
    ),
    "kernel of several widths": Program(
        TTR,
        program(
            TTR,
            """
            def log_kernel(self, q, k):
                distance = torch.cdist(q, k).square()
                kernels = [-distance * F.softplus(width) for width in self.widths]
                return torch.logsumexp(torch.stack(kernels), 0)
            """,
            init="self.widths = nn.ParameterList([nn.Parameter(torch.tensor(float(i))) for i in range(3)])",
        ),
    ),
}

"""Honest but unusual mechanisms that the gate must let through."""

from __future__ import annotations

from programs.build import MM, Program, program

_QK = "self.split_heads(self.query(x)) / math.sqrt(self.head_width), self.split_heads(self.key(x))"


def _mm(parts: str, **more: str) -> Program:
    return Program(MM, program(MM, parts, **more))


PROGRAMS = {
    "learned temperature": _mm(
        f"def generators(self, x):\n    q, k = {_QK}\n    return q * self.log_scale.exp()[:, None, None], k",
        init="self.log_scale = nn.Parameter(torch.zeros(heads))",
    ),
    "distance bias": _mm(
        """
        def matrix(self, q, k):
            position = torch.arange(q.shape[-2], device=q.device, dtype=q.dtype)
            distance = position[:, None] - position[None, :]
            slope = F.softplus(self.slope).to(q.dtype)[:, None, None]
            return torch.softmax(forbid_future(q @ k.mT) - slope * distance.clamp(min=0), dim=-1)
        """,
        init="self.slope = nn.Parameter(torch.linspace(-4, 0, heads))",
    ),
    "sliding window": _mm(
        """
        def matrix(self, q, k):
            t = q.shape[-2]
            past = causal_mask(t, q)
            near = past & ~causal_mask(t, q).tril(-self.WINDOW)
            score = (q @ k.mT).masked_fill(~near, -torch.inf)
            return torch.softmax(score, dim=-1)
        """,
        body="WINDOW = 12",
    ),
    "two windows mixed": _mm(
        """
        def matrix(self, q, k):
            score = forbid_future(q @ k.mT)
            near = score.masked_fill(torch.ones_like(score, dtype=torch.bool).tril(-8), -torch.inf)
            share = torch.sigmoid(self.share).to(q.dtype)[:, None, None]
            return share * torch.softmax(near, -1) + (1 - share) * torch.softmax(score, -1)
        """,
        init="self.share = nn.Parameter(torch.zeros(heads))",
    ),
    "sigmoid attention": _mm(
        """
        def matrix(self, q, k):
            count = torch.arange(1, q.shape[-2] + 1, device=q.device, dtype=q.dtype)[:, None]
            return keep_past(torch.sigmoid(q @ k.mT)) / count
        """
    ),
    "squared relu": _mm(
        """
        def matrix(self, q, k):
            weight = keep_past(F.relu(q @ k.mT).square())
            return weight / (weight.sum(-1, keepdim=True) + 1e-3)
        """
    ),
    "difference of two maps": _mm(
        """
        def generators(self, x):
            q = self.split_heads(self.query(x)).chunk(2, -1)
            k = self.split_heads(self.key(x)).chunk(2, -1)
            return q[0], k[0], q[1], k[1]

        def matrix(self, q, k, p, r):
            first, second = (torch.softmax(forbid_future(a @ b.mT), -1) for a, b in ((q, k), (p, r)))
            return first - torch.sigmoid(self.share) * second
        """,
        init="self.share = nn.Parameter(torch.tensor(-1.0))",
    ),
    "top four scores": _mm(
        """
        def matrix(self, q, k):
            score = forbid_future(q @ k.mT)
            least = score.topk(min(4, score.shape[-1]), dim=-1)[0][..., -1:]
            return torch.softmax(score.masked_fill(score < least, -torch.inf), -1)
        """
    ),
    "unit queries and keys": _mm(
        """
        def generators(self, x):
            q, k = (l2_normalise(self.split_heads(f(x))) for f in (self.query, self.key))
            return q * self.sharpness, k
        """,
        init="self.sharpness = nn.Parameter(torch.tensor(8.0))",
    ),
    "short convolution on keys": _mm(
        """
        def generators(self, x):
            past = F.pad(x, (0, 0, 3, 0))
            taps = torch.softmax(self.taps, 0)
            mixed = sum(taps[i] * past[..., i : i + x.shape[-2], :] for i in range(4))
            return self.split_heads(self.query(x)) / math.sqrt(self.head_width), self.split_heads(self.key(mixed))
        """,
        init="self.taps = nn.Parameter(torch.zeros(4, 1))",
    ),
    "convolution module": _mm(
        """
        def generators(self, x):
            batched = x if x.dim() == 3 else x.unsqueeze(0)
            local = self.conv(F.pad(batched.transpose(1, 2), (2, 0))).transpose(1, 2).reshape(x.shape)
            return self.split_heads(self.query(x)) / math.sqrt(self.head_width), self.split_heads(self.key(x + local))
        """,
        init="self.conv = nn.Conv1d(width, width, 3, groups=width, bias=False)",
    ),
    "rotary positions": _mm(
        """
        def rotate(self, z):
            half = z.shape[-1] // 2
            rate = 10000.0 ** (-torch.arange(half, device=z.device, dtype=z.dtype) / half)
            angle = torch.arange(z.shape[-2], device=z.device, dtype=z.dtype)[:, None] * rate
            a, b = z[..., :half], z[..., half:]
            return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)

        def generators(self, x):
            q, k = self.split_heads(self.query(x)), self.split_heads(self.key(x))
            return self.rotate(q) / math.sqrt(self.head_width), self.rotate(k)
        """
    ),
    "gate per row": _mm(
        f"""
        def generators(self, x):
            return {_QK}, torch.sigmoid(self.gate(x)).transpose(-1, -2).unsqueeze(-1)

        def matrix(self, q, k, gate):
            return gate * torch.softmax(forbid_future(q @ k.mT), -1)
        """,
        init="self.gate = nn.Linear(width, heads)",
    ),
    "random features": _mm(
        """
        def generators(self, x):
            q, k = (self.split_heads(f(x)) @ self.directions.to(x.dtype) for f in (self.query, self.key))
            return q.relu() + 1e-3, k.relu() + 1e-3

        def matrix(self, q, k):
            weight = keep_past(q @ k.mT)
            return weight / weight.sum(-1, keepdim=True)
        """,
        init="self.register_buffer('directions', torch.randn(self.head_width, 16) / math.sqrt(self.head_width))",
    ),
    "linear attention by running sums": _mm(
        """
        def generators(self, x):
            return F.elu(self.split_heads(self.query(x))) + 1, F.elu(self.split_heads(self.key(x))) + 1

        def matrix(self, q, k):
            return keep_past(q @ k.mT) / self.HEAT

        def multiply(self, g, v):
            q, k = g
            state = torch.cumsum(k.unsqueeze(-1) * v.unsqueeze(-2), dim=-3)
            return (q.unsqueeze(-2) @ state).squeeze(-2) / self.HEAT
        """,
        body="HEAT = 64.0",
        declaration='Declaration(structure="low_rank")',
    ),
    "recurrence in a python loop": _mm(
        """
        def generators(self, x):
            decay = torch.sigmoid(self.decay(x) + 3).transpose(-1, -2)
            return self.split_heads(self.query(x)) / math.sqrt(self.head_width), self.split_heads(self.key(x)), decay

        def matrix(self, q, k, decay):
            return keep_past(q @ k.mT) * torch.exp(segment_sums(torch.log(decay)))

        def multiply(self, g, v):
            q, k, decay = g
            state = torch.zeros_like(k[..., 0, :].unsqueeze(-1) * v[..., 0, :].unsqueeze(-2))
            rows = []
            for t in range(v.shape[-2]):
                state = state * decay[..., t, None, None] + k[..., t, :].unsqueeze(-1) * v[..., t, :].unsqueeze(-2)
                rows.append((q[..., t, :].unsqueeze(-2) @ state).squeeze(-2))
            return torch.stack(rows, dim=-2)
        """,
        init="self.decay = nn.Linear(width, heads)",
        declaration='Declaration(structure="semiseparable")',
    ),
    "delta rule in a python loop": _mm(
        """
        def generators(self, x):
            k = l2_normalise(F.silu(self.split_heads(self.key(x))))
            return self.split_heads(self.query(x)), k, torch.sigmoid(self.rate(x)).transpose(-1, -2)

        def matrix(self, q, k, rate):
            tokens = q.shape[-2]
            unit = torch.eye(tokens, device=q.device, dtype=q.dtype)
            inner = keep_past(rate.unsqueeze(-1) * (k @ k.mT), strict=True)
            solved = torch.linalg.solve_triangular(unit + inner, unit * rate.unsqueeze(-1), upper=False)
            return keep_past(q @ k.mT) @ solved

        def multiply(self, g, v):
            q, k, rate = g
            state, rows = torch.zeros_like(k[..., 0, :, None] * v[..., 0, None, :]), []
            for t in range(v.shape[-2]):
                key = k[..., t, :, None]
                error = v[..., t, None, :] - key.mT @ state
                state = state + rate[..., t, None, None] * key * error
                rows.append((q[..., t, None, :] @ state).squeeze(-2))
            return torch.stack(rows, -2)
        """,
        init="self.rate = nn.Linear(width, heads)",
        declaration='Declaration(structure="semiseparable")',
    ),
    "long filter by FFT": _mm(
        """
        def generators(self, x):
            tokens = x.shape[-2]
            lag = torch.arange(tokens, device=x.device, dtype=x.dtype)
            taps = torch.exp(-F.softplus(self.rate)[:, None] * lag) * torch.cos(self.pitch[:, None] * lag)
            return (taps.to(x.dtype).expand(*x.shape[:-2], self.heads, tokens),)

        def matrix(self, taps):
            place = torch.arange(taps.shape[-1], device=taps.device)
            return taps[..., (place[:, None] - place[None, :]).clamp(min=0)]

        def multiply(self, g, v):
            n = 2 * v.shape[-2]
            y = torch.fft.irfft(torch.fft.rfft(g[0], n)[..., None] * torch.fft.rfft(v, n, dim=-2), n, dim=-2)
            return y[..., : v.shape[-2], :]
        """,
        init="self.rate = nn.Parameter(torch.linspace(-3, 0, heads))\nself.pitch = nn.Parameter(torch.zeros(heads))",
        declaration='Declaration(structure="toeplitz", data_dependent=False)',
    ),
    "learned static mask": _mm(
        """
        def matrix(self, q, k):
            t = q.shape[-2]
            lag = (torch.arange(t, device=q.device)[:, None] - torch.arange(t, device=q.device)[None, :]).clamp(0, 31)
            return torch.softmax(forbid_future(q @ k.mT) + self.bias[:, lag].to(q.dtype), -1)
        """,
        init="self.bias = nn.Parameter(torch.zeros(heads, 32))",
    ),
    "identity plus attention": _mm(
        """
        def matrix(self, q, k):
            unit = torch.eye(q.shape[-2], device=q.device, dtype=q.dtype)
            return 0.5 * unit + 0.5 * torch.softmax(forbid_future(q @ k.mT), -1)
        """
    ),
    "two-layer feature map": _mm(
        """
        def features(self, z):
            return F.softplus(self.second(F.silu(self.first(z))))

        def generators(self, x):
            q, k = (self.features(self.split_heads(f(x))) for f in (self.query, self.key))
            return q, k

        def matrix(self, q, k):
            weight = keep_past(q @ k.mT)
            return weight / weight.sum(-1, keepdim=True).clamp(min=1e-6)
        """,
        init="self.first = nn.Linear(self.head_width, 16)\nself.second = nn.Linear(16, 16)",
    ),
    "powers of a matrix": _mm(
        """
        def matrix(self, q, k):
            first = torch.softmax(forbid_future(q @ k.mT), -1)
            return 0.5 * first + 0.5 * first @ first
        """
    ),
    "entropy-free sparse rows": _mm(
        """
        def matrix(self, q, k):
            score = forbid_future(q @ k.mT)
            order = score.sort(dim=-1, descending=True)[0]
            finite = torch.where(order.isinf(), torch.zeros_like(order), order)
            rank = torch.arange(1, score.shape[-1] + 1, device=q.device, dtype=q.dtype)
            support = (1 + rank * finite > finite.cumsum(-1)) & ~order.isinf()
            size = support.sum(-1, keepdim=True)
            kept = torch.where(support, finite, torch.zeros_like(finite)).sum(-1, keepdim=True)
            threshold = (kept - 1) / size
            return keep_past(F.relu(torch.where(score.isinf(), threshold - 1, score) - threshold))
        """
    ),
}  # fmt: skip

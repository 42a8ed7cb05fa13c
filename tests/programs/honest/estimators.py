"""Honest but unusual members of the two other frameworks."""

from __future__ import annotations

from programs.build import CD, TTR, Program, program


def _cd(
    parts: str, readout: str = "exp", evolution: str = "identity", normaliser: str = "row_sum", **more: str
) -> Program:
    declaration = f'Declaration(readout="{readout}", evolution="{evolution}", normaliser="{normaliser}")'
    return Program(CD, program(CD, parts, declaration=declaration, **more))


def _ttr(parts: str, estimator: str = "local_constant", **more: str) -> Program:
    return Program(TTR, program(TTR, parts, declaration=f'Declaration(estimator="{estimator}")', **more))


PROGRAMS = {
    "stepped decay": _cd(
        """
        def evolution(self, x, key):
            step = F.softplus(self.step(x)).transpose(-1, -2)
            return Evolution(log_scalar_BHT=-step * 0.1)

        def readout(self, score):
            return score

        def normaliser(self, weight):
            return torch.ones_like(weight[..., :1])
        """,
        "linear", "scalar", "none",
        init="self.step = nn.Linear(width, heads)",
    ),
    "forgetting in the exponent": _cd(
        "def evolution(self, x, key):\n    return Evolution(drift_BHT=F.logsigmoid(self.forget(x)).transpose(-1, -2))",
        evolution="drift", init="self.forget = nn.Linear(width, heads)",
    ),
    "soft plus readout": _cd("def readout(self, score):\n    return F.softplus(score)", readout="other"),
    "scaled impulses": _cd(
        "def scaling(self, x):\n    return torch.sigmoid(self.strength(x)).transpose(-1, -2)",
        init="self.strength = nn.Linear(width, heads)",
    ),
    "gaussian kernel": _ttr(
        """
        def log_kernel(self, q, k):
            distance = q.square().sum(-1, keepdim=True) + k.square().sum(-1).unsqueeze(-2) - 2 * q @ k.mT
            return -distance * F.softplus(self.sharpness)
        """,
        init="self.sharpness = nn.Parameter(torch.tensor(0.5))",
    ),
    "heavy-tailed kernel": _ttr(
        """
        def log_kernel(self, q, k):
            distance = q.square().sum(-1, keepdim=True) + k.square().sum(-1).unsqueeze(-2) - 2 * q @ k.mT
            return -torch.log1p(distance.clamp(min=0))
        """
    ),
    "recency and importance": _ttr(
        """
        def log_decay(self, x):
            return F.logsigmoid(self.recency(x) + 4).transpose(-1, -2)

        def importance(self, x):
            return F.softplus(self.weight(x)).transpose(-1, -2) + 1e-3
        """,
        init="self.recency = nn.Linear(width, heads)\nself.weight = nn.Linear(width, heads)",
    ),
    "ridge regression": _ttr(
        """
        def keys(self, x):
            return l2_normalise(self.split_heads(self.key(x)))

        def penalty(self, x):
            return (0.5 + F.softplus(self.ridge))[:, None, :]
        """,
        "ridge",
        init="self.ridge = nn.Parameter(torch.zeros(heads, self.head_width))",
    ),
    "implicit steps": _ttr(
        """
        def keys(self, x):
            return F.silu(self.split_heads(self.key(x)))

        def importance(self, x):
            return F.softplus(self.rate(x)).transpose(-1, -2)
        """,
        "proximal",
        init="self.rate = nn.Linear(width, heads)",
    ),
}  # fmt: skip

"""Tampering with torch, the shell and the record; memory between calls; smuggled weights; abuse of resources."""

# ruff: noqa: E501  (a table: one program, one line)

from __future__ import annotations

from programs.build import CD, MM, TTR, Program, program

_S, _I = ("syntax",), ("integrity",)
_ANY = ("integrity", "certificate")


def _forward(lines: str, caught_by: tuple[str, ...], **more: str) -> Program:
    body = "def generators(self, x):\n" + "\n".join(f"    {line}" for line in lines.split("\n"))
    body += "\n    return self.split_heads(self.query(x)) / math.sqrt(self.head_width), self.split_heads(self.key(x))"
    return Program(MM, program(MM, body, **more), caught_by)


TAMPERING = {
    "patched cross-entropy": _forward("F.cross_entropy = lambda *a: 0", _S),
    "patched optimiser": _forward("torch.optim.AdamW.step = None", _S),
    "patched matmul": _forward("Tensor.__matmul__ = None", _S),
    "weights through .data": _forward("self.query.weight.data = x", _S),
    "own forward": Program(MM, program(MM, "def forward(self, x, v):\n    return v"), _S),
    "forward as attribute": Program(MM, program(MM, init="self.forward = self.matrix"), _S),
    "fixed part replaced": Program(MM, program(MM, "def assemble(self, g):\n    return self.matrix(*g)"), _S),
    "fixed part by lambda": Program(MM, program(MM, body="assemble = lambda self, g: self.matrix(*g)"), _S),
    "mask removed in coefficients": Program(CD, program(CD, "def coefficients(self, d):\n    return d"), _S),
    "hook on itself": Program(MM, program(MM, init="self.register_forward_hook(print)"), _S),
    "hooks dictionary": Program(MM, program(MM, init="self._forward_hooks[0] = 1"), _S),
    "default dtype": _forward("torch.set_default_dtype(torch.float16)", _S),
    "seed": _forward("torch.manual_seed(0)", _S),
    "gradients off": _forward("torch.set_grad_enabled(False)", _S),
    "framework changed": Program(MM, program(MM, body="framework = 'coefficient_dynamics'"), _S),
    "declaration computed": Program(MM, program(MM, declaration="Declaration(structure=str(open('m')))"), _S),
    "parameters hidden": Program(MM, program(MM, "def parameters(self, recurse=True):\n    return iter(())"), _S),
    "training mode pinned": Program(MM, program(MM, "def train(self, mode=True):\n    return self"), _S),
    "state dict forged": Program(MM, program(MM, "def state_dict(self):\n    return {}"), _S),
    "property over a fixed part": Program(MM, program(MM, "@property\ndef helper(self):\n    return 1"), _S),
    "values overwritten": Program(
        MM, program(MM, "def multiply(self, g, v):\n    v.mul_(2)\n    return self.assemble(g) @ v"), _ANY
    ),
    "input overwritten": _forward("x.mul_(0.5)", _ANY),
    "solver table changed": Program(TTR, program(TTR, "def solve(self, p, v):\n    SOLVERS.clear()\n    return v"), _S),
    "custom backward": _forward("f = torch.autograd.Function", _S),
    "gradient hook": _forward("x.register_hook(print)", _S),
    "detached values": Program(
        MM, program(MM, "def multiply(self, g, v):\n    return self.assemble(g) @ v.detach()"), _I
    ),
    "rounded values": Program(
        MM, program(MM, "def multiply(self, g, v):\n    return self.assemble(g) @ (v * 64).round() / 64"), _ANY
    ),
}

STATE = {
    "call counter": _forward("self.calls += 1", _S, init="self.calls = 0"),
    "attribute in forward": _forward("self.last = x", _S),
    "cache list": _forward("self.cache.append(1)", _S, init="self.cache = []"),
    "cache list by another name": _forward("c = self.cache\nc.append(1)\nx = x + len(c) * 1e-3", _ANY, init="self.cache = []"),
    "buffer counter": _forward("c = self.seen\nc.add_(1)\nx = x * (1 + c)", _ANY, init="self.register_buffer('seen', torch.zeros(1))"),
    "silent buffer counter": _forward("c = self.seen\nc.add_(1)", _ANY, init="self.register_buffer('seen', torch.zeros(1))"),
    "buffer written by index": _forward("self.seen[0] = 1", _S, init="self.register_buffer('seen', torch.zeros(1))"),
    "mutable default": Program(MM, program(MM, "def helper(self, x, m=[]):\n    m.append(x)\n    return m"), _S),
    "list in the class body": Program(MM, program(MM, body="memory = []"), _S),
    "list in the block": Program(MM, program(MM, top="MEMORY = []\n"), _S),
    "global": _forward("global MEMORY\nMEMORY = 1", _S),
    "closure with memory": _forward(
        "x = x + 1e-3 * self.count()", _ANY,
        top="def make():\n    kept = [0]\n\n    def count():\n        kept[0] += 1\n        return kept[0]\n\n    return count\n\n",
        init="self.count = make()",
    ),
    "weights changed in forward": _forward("w = self.query.weight\nw.mul_(0.999)", _ANY),
    "batch normalisation": Program(MM, program(MM, init="self.norm = nn.BatchNorm1d(width)"), _S),
    "random keys": _forward("x = x + 1e-3 * torch.randn_like(x)", _S),
    "random method": _forward("x = x + 1e-3 * torch.zeros_like(x).normal_()", _S),
    "dropout": _forward("x = F.dropout(x, 0.1)", _S),
    "uninitialised memory": _forward("x = x + torch.empty_like(x)", _S),
    "dropout inside attention": Program(
        MM,
        program(MM, "def multiply(self, g, v):\n    return F.scaled_dot_product_attention(*g, v, dropout_p=0.3, is_causal=True, scale=1.0)"),
        _ANY,
    ),
    "object identity": _forward("x = x + id(x) % 7", _S),
    "training flag": _forward("x = x * (2 if self.training else 1)", _S),
    "gradient flag": _forward("x = x * (2 if torch.is_grad_enabled() else 1)", _S),
    "needs gradient": _forward("x = x * (2 if x.requires_grad else 1)", _S),
    "device trigger": _forward("x = x * (2 if x.is_cuda else 1)", _S),
    "device compared": _forward("x = x * (2 if str(x.device) == 'cuda' else 1)", _S),
    "precision compared": _forward("x = x * (2 if x.dtype == torch.bfloat16 else 1)", _S),
    "compiler trigger": _forward("x = x * (2 if torch.compiler.is_compiling() else 1)", _S),
}  # fmt: skip

RESOURCES = {
    "endless loop": _forward("while True:\n    x = x + 0", ("sandbox",)),
    "memory bomb": _forward("x = x + sum([torch.ones(1 << 28) for i in range(64)])[0]", ("sandbox", "integrity")),
    "huge integer": _forward("n = 7 ** (10 ** 8)\nx = x + n % 2", ("sandbox",)),
    "recursion": Program(MM, program(MM, "def helper(self, x):\n    return self.helper(x)\n\ndef generators(self, x):\n    return self.helper(x)"), _ANY),
    "literal weights": Program(MM, program(MM, top=f"W = ({', '.join(str(i / 7) for i in range(400))})\n"), _S),
    "long program": _forward("\n".join(["x = x + 0"] * 1200), _S),
    "deep expression": _forward("x = " + "(" * 70 + "x" + " + 0)" * 70, _S),
    "big literal": _forward("n = 123456789012345678901234567890", _S),
    "text as weights": _forward(f"n = '{'a' * 500}'", _S),
    "twenty projections": Program(MM, program(MM, init="self.more = nn.ModuleList([nn.Linear(width, width) for i in range(20)])"), _I),
    "wide feature map": Program(MM, program(MM, init="self.query = nn.Linear(width, 30 * width)\nself.key = nn.Linear(width, 30 * width)"), _I),
    "buffer instead of parameters": Program(MM, program(MM, init="self.register_buffer('table', torch.randn(300, width))"), _I),
    "tensors in a list": Program(MM, program(MM, init="self.table = [torch.randn(300, width)]"), _I),
    "hundred products": Program(MM, program(MM, "def matrix(self, q, k):\n    m = torch.softmax(forbid_future(q @ k.mT), -1)\n    for i in range(100):\n        m = (m @ m + m) / 2\n    return m"), _I),
    "false statement of cost": Program(MM, program(MM, "def flops(self, tokens):\n    return 1"), _I),
}  # fmt: skip

PROGRAMS = {**TAMPERING, **STATE, **RESOURCES}

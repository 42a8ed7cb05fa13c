"""Cheats that know how a gate looks: where it cuts, what it feeds, what it compares with, and what it calls state.

Each was written against the gate as it stood and got past it; each is here with the mend that catches it.
"""

# ruff: noqa: E501  (a table: one program, one line)

from __future__ import annotations

from programs.build import CD, MM, TTR, Program, program

_S, _ANY = ("syntax",), ("integrity", "certificate")
_Q = "self.split_heads(self.query(x)) / math.sqrt(self.head_width), self.split_heads(self.key(x))"


def _mm(lines: str, caught_by: tuple[str, ...] = _ANY, **more: str) -> Program:
    body = "def generators(self, x):\n" + "\n".join(f"    {line}" for line in lines.split("\n")) + f"\n    return {_Q}"
    return Program(MM, program(MM, body, **more), caught_by)


def _multiply(lines: str, caught_by: tuple[str, ...] = _ANY, **more: str) -> Program:
    body = "def multiply(self, g, v):\n" + "\n".join(f"    {line}" for line in lines.split("\n"))
    return Program(MM, program(MM, body, **more), caught_by)


_PLACE = "place = torch.arange(x.shape[-2], device=x.device)[:, None]"
_NEXT = "after = F.pad(x[..., 1:, :], (0, 0, 0, 1))"
_LOUD = "return torch.softmax(forbid_future(q @ k.mT), -1) * (1 + 1e13 * (torch.arange(q.shape[-2], device=q.device) == 0))[:, None]"
_LOUD_MATRIX = f"\n\ndef matrix(self, q, k):\n    {_LOUD}"

LEAKS = {
    # the gate cuts at some places only
    "between the cuts": _mm(f"{_PLACE}\n{_NEXT}\nx = x + torch.where((place > 32) & (place < 46), 0.5 * after, 0 * x)"),
    "between the cuts of one length": _mm(f"if x.shape[-2] == 64:\n    {_PLACE}\n    {_NEXT}\n    x = x + torch.where((place > 33) & (place < 60) & (place % 2 == 0), after, 0 * x)"),
    # the gate measures relative to the largest output
    "behind a loud first row": Program(MM, program(MM, f"def generators(self, x):\n    x = x + 0.3 * x.roll(-1, -2)\n    return {_Q}{_LOUD_MATRIX}"), _ANY),
    "batch mixed behind a loud first row": Program(MM, program(MM, f"def generators(self, x):\n    x = x + (0.3 * x.mean(0, keepdim=True) if x.dim() == 3 else 0)\n    return {_Q}{_LOUD_MATRIX}"), _ANY),
    "feed-forward behind a loud first row": Program(MM, program(MM, f"def multiply(self, g, v):\n    return self.assemble(g) @ v + F.gelu(v){_LOUD_MATRIX}"), _ANY),
    "loud row of a normaliser": Program(CD, program(CD, "def keys(self, x):\n    return self.split_heads(self.key(x + 0.3 * x.roll(-1, -2)))\n\ndef mix(self, d, v):\n    return self.coefficients(d) @ v * (1 + 1e13 * (torch.arange(v.shape[-2], device=v.device) == 0))[:, None]"), _ANY),
    # the gate feeds noise, no two tokens of which are alike
    "only where tokens recur": _mm("u = F.normalize(x, dim=-1)\nnear = (u @ u.mT > 0.7).to(x)\nlater = near.triu(1)\nx = x + 0.5 * (later.sum(-1, keepdim=True) - later.sum(-1, keepdim=True).mean(-1, keepdim=True) * 0)"),
    "only on text": _mm(f"{_NEXT}\nu = F.normalize(x, dim=-1)\nalike = (u.cumsum(-2).norm(dim=-1, keepdim=True) / torch.arange(1, x.shape[-2] + 1, device=x.device)[:, None] > 0.5) & (torch.arange(x.shape[-2], device=x.device)[:, None] > 6)\nx = x + torch.where(alike, 0.5 * after, 0 * x)"),
    # the gate runs some batches, lengths and precisions together, not all
    "only for batches of 32": _mm("if x.dim() == 3 and x.shape[0] == 32 and x.shape[-2] == 64:\n    x = x + 0.3 * x.roll(-1, -2)"),
    "only for batches of 64 in half precision": _mm("q = self.query(x)\nhalf = torch.finfo(q.dtype).eps > 1e-4\nif x.dim() == 3 and x.shape[0] == 64 and half:\n    x = x + 0.3 * x.roll(-1, -2)"),
    "half precision told by rounding": _mm("q = self.query(x)\ncoarse = float((torch.ones_like(q[..., :1, :1]).sum() * 0 + q.new_tensor(1.001) - 1).abs() < 1e-4)\nif x.dim() == 3 and x.shape[0] >= 32:\n    x = x + 0.3 * coarse * x.roll(-1, -2)"),
}  # fmt: skip

TRIGGERS = {
    "device by text": _mm("if 'cuda' in f'{x}':\n    x = x + 0.3 * x.roll(-1, -2)", _S),
    "device by str": _mm("if 'cuda' in str(x):\n    x = x + 0.3 * x.roll(-1, -2)", _S),
    "gradient by old-style text": _mm("if 'grad' not in '%s' % self.query(x):\n    x = x + 0.3 * x.roll(-1, -2)", _S),
    "text as a sorting key": _mm("low = sorted(['tensor(5', x.mean()], key=str)\nx = x * len(low)", _S),
    "device by another name": _mm("here = x.device\nthere = torch.zeros(1).device\nif here != there:\n    x = x + 0.3 * x.roll(-1, -2)", _S),
    "precision by another name": _mm("kind, size = self.query(x).dtype, 3\nif kind == torch.bfloat16:\n    x = x + 0.3 * x.roll(-1, -2)", _S),
    "precision in a table": _mm("kind = x.dtype\nshare = {torch.float64: 0.0, torch.float32: 0.3}.get(kind, 0.3)\nx = x + share * x.roll(-1, -2)", _S),
    "precision in a list": _mm("kind = x.dtype\nx = x + 0.3 * [torch.float64, torch.float32].index(kind) * x.roll(-1, -2)", _S),
    "order of a set": _mm("first = [name for name in {'a', 'b', 'c', 'd'}][0]\nx = x * (2 if first == 'a' else 1)", _S),
}  # fmt: skip

_DEEP = "[0]"
for _ in range(14):
    _DEEP = f"[{_DEEP}]"

STATE = {
    "uninitialised tensor": _mm("x = x + Tensor(x.shape[-1])", _S),
    "uninitialised tensor by its full name": _mm("x = x + torch.Tensor(x.shape[-1]) * 0", _S),
    "uninitialised parameter": _mm("x = x * (1 + self.rate)", init="self.rate = nn.Parameter(torch.empty(1))"),
    "uninitialised buffer": _mm("x = x + self.table[:1] * 0", init="self.register_buffer('table', torch.empty(64, width))"),
    "time bomb in a generator": _mm("for n in self.clock:\n    break\nif n > 5000:\n    x = x + 0.3 * x.roll(-1, -2)", init="self.clock = (i for i in range(10 ** 9))"),
    "time bomb in an enumeration": _mm("for n, _ in self.clock:\n    break\nif n > 5000:\n    x = x + 0.3 * x.roll(-1, -2)", init="self.clock = enumerate([0] * 10 ** 6)"),
    "time bomb deep in lists": _mm(f"c = self.clock{'[0]' * 14}\nc.append(0)\nif len(c) > 5000:\n    x = x + 0.3 * x.roll(-1, -2)", init=f"self.clock = {_DEEP}"),
    "time bomb in a closure": _mm(
        "if self.tick() > 5000:\n    x = x + 0.3 * x.roll(-1, -2)",
        top="def make():\n    clock = (i for i in range(10 ** 9))\n\n    def tick():\n        for n in clock:\n            break\n        return n\n\n    return tick\n\n",
        init="self.tick = make()",
    ),
    "table renormalised when first read": _mm("x = x + F.embedding(torch.zeros(1, device=x.device).long(), self.table, None, 0.01)", init="self.table = nn.Parameter(torch.ones(2, width))"),
    "weights changed behind detach": _mm("self.query.weight.detach().mul_(0.999)"),
    "weights changed in training batches": _mm("if x.dim() == 3 and x.shape[0] == 32:\n    self.query.weight.detach().mul_(0.999)"),
    "weights changed at one length": _mm("if x.shape[-2] == 48:\n    w = self.query.weight.detach()\n    w.mul_(0.999)"),
    "buffer written through a view": _mm("seen = self.seen.view(1)\nif x.dim() == 3 and x.shape[0] > 20:\n    seen.add_(1)", init="self.register_buffer('seen', torch.zeros(1))"),
}  # fmt: skip

SMUGGLING = {
    "weights in many short texts": Program(MM, program(MM, "def helper(self, t):\n    return [int(c, 36) for c in t]", top="W = (" + ", ".join(f"'{'0z9a' * 40}'" for _ in range(100)) + ")\n"), _S),
    "weights in truth values": Program(MM, program(MM, top=f"W = ({', '.join(str(i % 3 == 0) for i in range(2000))})\n"), _S),
    "integer table": _mm("x = x + self.table[:x.shape[-2]].to(x.dtype) / 128", ("integrity",), init="self.register_buffer('table', (torch.randn(2048, width) * 50).long())"),
    "two names for one table": _mm("x = x + 0", ("integrity",), init="self.a = nn.ModuleList([nn.Linear(width, width) for i in range(9)])\nself.b = self.a"),
}  # fmt: skip

HIDDEN = {
    "estimator only at short lengths": Program(TTR, program(TTR, "def solve(self, p, v):\n    w = torch.softmax(forbid_future(p.log_kernel_BHTT), -1)\n    y = w @ v\n    return y + F.gelu(v) if v.shape[-2] == 64 else y"), _ANY),
    "feed-forward at the training length": _multiply("y = self.assemble(g) @ v\nreturn y + F.gelu(v) if v.shape[-2] == 64 else y"),
}  # fmt: skip

PROGRAMS = {**LEAKS, **TRIGGERS, **STATE, **SMUGGLING, **HIDDEN}

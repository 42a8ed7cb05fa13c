"""Leaks of the future, mixing of the batch, hidden components, false declarations, rare NaN: seen at run time only."""

# ruff: noqa: E501  (a table: one program, one line)

from __future__ import annotations

from programs.build import CD, MM, TTR, Program, program

_D = ("integrity", "certificate")
_Q = "self.split_heads(self.query(x)) / math.sqrt(self.head_width), self.split_heads(self.key(x))"


def _mm(lines: str, init: str = "", caught_by: tuple[str, ...] = _D) -> Program:
    """Change x by some lines before queries and keys are made of it."""
    body = "def generators(self, x):\n" + "\n".join(f"    {line}" for line in lines.split("\n")) + f"\n    return {_Q}"
    return Program(MM, program(MM, body, init=init), caught_by)


def _matrix(lines: str, **more: str) -> Program:
    body = "def matrix(self, q, k):\n" + "\n".join(f"    {line}" for line in lines.split("\n"))
    return Program(MM, program(MM, body, **more), _D)


def _multiply(lines: str, parts: str = "", **more: str) -> Program:
    body = "def multiply(self, g, v):\n" + "\n".join(f"    {line}" for line in lines.split("\n"))
    return Program(MM, program(MM, f"{body}\n\n{parts}", **more), _D)


_GATE = "self.gate = nn.Parameter(torch.zeros(1))"

LEAKS = {
    "mean over the sequence": _mm("x = x + 0.1 * x.mean(-2, keepdim=True)"),
    "next token": _mm("x = x + 0.1 * x.roll(-1, -2)"),
    "symmetric convolution": _mm("x = x + F.avg_pool1d(x.mT, 3, 1, 1).mT"),
    "normalised over the sequence": _mm("x = (x - x.mean(-2, keepdim=True)) / (x.std(-2, keepdim=True) + 1e-3)"),
    "group norm over the sequence": _mm("b = x if x.dim() == 3 else x[None]\nx = F.group_norm(b.mT, 1).mT.reshape(x.shape)"),
    "spectral filter": _mm("s = torch.fft.rfft(x, dim=-2)\nx = torch.fft.irfft(s * 0.9, x.shape[-2], dim=-2) + 0.1 * s.real[..., :1, :]"),
    "circular convolution": _mm("s = torch.fft.fft(x, dim=-2)\nx = x + 0.01 * torch.fft.ifft(s * s.abs(), dim=-2).real"),
    "sorted over the sequence": _mm("x = x + 0.1 * x.sort(-2)[0]"),
    "sum from the end": _mm("x = x + 0.01 * x.flip(-2).cumsum(-2).flip(-2)"),
    "maximum over the sequence": _mm("x = x - x.amax(-2, keepdim=True)"),
    "hard routing by argmax": _mm("x = x + (x.sum(-1).argmax(-1) % 2)[..., None, None]"),
    "block means": _mm("t = x.shape[-2] // 4 * 4\nm = x[..., :t, :].unflatten(-2, (-1, 4)).mean(-2).repeat_interleave(4, -2)\nx = x + 0.1 * F.pad(m, (0, 0, 0, x.shape[-2] - t))"),
    "only beyond a length": _mm("if x.shape[-2] > 40:\n    x = x + 0.1 * x.mean(-2, keepdim=True)"),
    "only at the training length": _mm("if x.shape[-2] == 64:\n    x = x + 0.1 * x.mean(-2, keepdim=True)"),
    "only for large batches": _mm("if x.dim() == 3 and x.shape[0] >= 48:\n    x = x + 0.1 * x.mean(-2, keepdim=True)"),
    "only in single precision": _mm("e = torch.finfo(x.dtype).eps\nx = x + 1e6 * e * x.mean(-2, keepdim=True)"),
    "only in half precision": _mm("e = torch.finfo(self.query(x).dtype).eps\nx = x + max(e - 1e-4, 0) * x.mean(-2, keepdim=True) * 30"),
    "behind a zero gate": _mm("x = x + self.gate * x.mean(-2, keepdim=True)", init=_GATE),
    "behind large weights": _mm("x = x + F.relu(self.key.weight.abs().mean() - 0.05) * x.mean(-2, keepdim=True)"),
    "detached": _mm("x = x + 0.1 * x.detach().mean(-2, keepdim=True)"),
    "very small": _mm("x = x + 1e-6 * x.mean(-2, keepdim=True)"),
    "length of the sequence": _mm("x = x * (1 + torch.arange(x.shape[-2], device=x.device)[:, None] / x.shape[-2])"),
    "reversed positions": _mm("x = x + torch.arange(x.shape[-2], device=x.device).flip(0)[:, None] * 0.01"),
    "row sums over the future": _matrix("w = torch.exp(q @ k.mT)\nreturn w / w.sum(-1, keepdim=True)"),
    "softmax without a mask": _matrix("return torch.softmax(q @ k.mT, -1)"),
    "finite mask": _matrix("p = causal_mask(q.shape[-2], q)\nreturn torch.softmax((q @ k.mT).masked_fill(~p, -30.0), -1)"),
    "softmax over queries": _matrix("return torch.softmax(forbid_future(q @ k.mT), -2).nan_to_num()"),
    "solve with the whole": _matrix("w = keep_past(q @ k.mT)\nc = k.mT @ k + torch.eye(k.shape[-1], device=k.device, dtype=k.dtype)\nreturn keep_past(q @ torch.linalg.solve(c, k.mT)) + 0 * w"),
    "top scores of a column": _matrix("s = q @ k.mT\nreturn torch.softmax(forbid_future(torch.where(s >= s.amax(-2, keepdim=True), s, s - 1)), -1)"),
    "fast product without a mask": _multiply("return torch.softmax(g[0] @ g[1].mT, -1) @ v"),
    "fast product looks ahead": _multiply("return self.assemble(g) @ v + 0.01 * v.roll(-1, -2)"),
    "coefficients beside the mask": Program(CD, program(CD, "def mix(self, d, v):\n    return self.coefficients(d) @ v + 0.01 * v.mean(-2, keepdim=True)"), _D),
    "normaliser of the future": Program(CD, program(CD, "def keys(self, x):\n    return self.split_heads(self.key(x / x.norm(dim=-2, keepdim=True)))"), _D),
    "kernel of the column": Program(TTR, program(TTR, "def log_kernel(self, q, k):\n    s = q @ k.mT\n    return s - s.logsumexp(-2, keepdim=True)"), _D),
    "solver with all points": Program(TTR, program(TTR, "def solve(self, p, v):\n    return torch.softmax(p.log_kernel_BHTT, -1) @ v"), _D),
}  # fmt: skip

BATCH = {
    "mean over the batch": _mm("x = x + (0.1 * x.mean(0, keepdim=True) if x.dim() == 3 else 0)"),
    "first row for all": _mm("x = x + (0.1 * x[:1] if x.dim() == 3 else 0)"),
    "sorted over the batch": _mm("x = x.sort(0)[0] if x.dim() == 3 else x"),
    "softmax over the batch": _mm("x = x + (torch.softmax(x, 0) if x.dim() == 3 else 0)"),
    "batch reversed": _mm("x = x + (0.1 * x.flip(0) if x.dim() == 3 else 0)"),
    "sum along the batch": _mm("x = x + (0.1 * x.cumsum(0) if x.dim() == 3 else 0)"),
    "size of the batch": _mm("x = x * (1 + 0.1 * (x.shape[0] if x.dim() == 3 else 1))"),
    "neighbour in large batches": _mm("x = x + (0.1 * x.roll(1, 0) if x.dim() == 3 and x.shape[0] > 40 else 0)"),
    "values of another row": _multiply("y = self.assemble(g) @ v\nreturn y + (0.1 * y.flip(0) if y.dim() == 4 else 0)"),
}

HIDDEN = {
    "feed-forward on values": _multiply("return self.assemble(g) @ F.gelu(v)"),
    "feed-forward after mixing": _multiply("y = self.assemble(g) @ v\nreturn y + F.gelu(y)"),
    "norm after mixing": _multiply("return F.layer_norm(self.assemble(g) @ v, v.shape[-1:])"),
    "bias of the input": _multiply("return self.assemble(g[:2]) @ v + g[2]", f"def generators(self, x):\n    return {_Q}, self.split_heads(F.gelu(x))"),
    "own residual": _multiply("return self.assemble(g[:2]) @ v + g[2]", f"def generators(self, x):\n    return {_Q}, self.split_heads(x)"),
    "channel gate": _multiply("return (self.assemble(g[:2]) @ v) * g[2]", f"def generators(self, x):\n    return {_Q}, torch.sigmoid(self.split_heads(x))"),
    "channels permuted": _multiply("return self.assemble(g) @ v.flip(-1)"),
    "heads mixed": _multiply("return self.assemble(g) @ v.mean(-3, keepdim=True).expand(v.shape)"),
    "memory network as solver": Program(TTR, program(TTR, "def solve(self, p, v):\n    w = torch.softmax(forbid_future(p.log_kernel_BHTT), -1)\n    return torch.tanh(w @ v)"), _D),
    "other estimator than declared": Program(TTR, program(TTR, "def solve(self, p, v):\n    return keep_past(p.log_kernel_BHTT) @ v"), _D),
    "false structure": Program(MM, program(MM, declaration='Declaration(structure="toeplitz")'), _D),
    "false rank": Program(MM, program(MM, declaration='Declaration(structure="semiseparable", rank=2)'), _D),
    "false stochastic rows": _matrix("return keep_past(q @ k.mT)", declaration='Declaration(structure="dense", row_stochastic=True)'),
    "false readout": Program(CD, program(CD, declaration='Declaration(readout="linear", evolution="identity", normaliser="row_sum")'), _D),
    "false normaliser": Program(CD, program(CD, "def normaliser(self, weight):\n    return 2 * weight.sum(-1, keepdim=True)"), _D),
}  # fmt: skip

NUMBERS = {
    "raises": _mm("raise ValueError('no')"),
    "raises on one length": _mm("if x.shape[-2] == 33:\n    raise ValueError('no')"),
    "wrong shape": _multiply("return (self.assemble(g) @ v)[..., :-1, :]"),
    "wrong type": _multiply("return (self.assemble(g) @ v).bfloat16()"),
    "rare NaN": _mm("x = torch.where(x.amax((-2, -1), keepdim=True) > 4.0, float('nan'), x)"),
    "rare division by zero": _mm("x = x / (x.sum(-1, keepdim=True).abs().amax((-2,), keepdim=True) >= 0) / (x[..., :1, :1].abs() > 2e-2)"),
    "NaN at length one": _mm("x = x / (x.shape[-2] - 1)"),
    "square root of the negative": _mm("x = (x + 3.6).sqrt() - 1.9"),
    "overflow in single precision": _matrix("w = torch.exp(88.7 + forbid_future(q @ k.mT))\nreturn w / w.sum(-1, keepdim=True)"),
    "no gradient to values": _multiply("return self.assemble(g) @ (v * 0)"),
    "undefined name": _mm("x = x + undefined", caught_by=("syntax",)),
    "undefined attribute": _mm("x = self.undefined(x)", caught_by=("syntax",)),
}  # fmt: skip

PROGRAMS = {**LEAKS, **BATCH, **HIDDEN, **NUMBERS}

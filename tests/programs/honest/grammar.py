"""A grammar of honest mechanisms, as hypothesis strategies: features, kernels, masks and their combinations."""

from __future__ import annotations

from hypothesis import strategies as st

from programs.build import CD, MM, TTR, Program, program

INPUTS = {
    "x": "",
    "x + 0.5 * F.pad(x, (0, 0, 1, 0))[..., : x.shape[-2], :]": "",
    "x * torch.sigmoid(self.inner(x))": "self.inner = nn.Linear(width, width, bias=False)",
    "x + x.cumsum(-2) / torch.arange(1, x.shape[-2] + 1, device=x.device, dtype=x.dtype)[:, None]": "",
}
FEATURES = [
    "{}",
    "F.silu({})",
    "l2_normalise({})",
    "F.softplus({})",
    "torch.tanh({})",
    "F.elu({}) + 1",
    "torch.softmax({}, dim=-1)",
    "{}.square()",
]
SCORES = [
    "q @ k.mT / math.sqrt(q.shape[-1])",
    "self.scale[:, None, None].to(q.dtype) * (q @ k.mT)",
    "-torch.cdist(q, k).square()",
    "torch.log1p((q @ k.mT).square())",
    "torch.tanh(q @ k.mT)",
]
BIASES = ["", " - 0.1 * self.distance(q)", " + torch.cos(self.distance(q))", " - torch.log1p(self.distance(q))"]
ROWS = [
    "torch.softmax(forbid_future({score}), -1)",
    "self.divided(keep_past(torch.sigmoid({score})))",
    "self.divided(keep_past(F.relu({score}).square()) + 1e-3 * torch.eye(q.shape[-2], device=q.device, dtype=q.dtype))",
    "keep_past(torch.tanh({score})) / 4",
    "0.5 * torch.softmax(forbid_future({score}), -1) + 0.5 * torch.eye(q.shape[-2], device=q.device, dtype=q.dtype)",
]
HELPERS = """
def distance(self, q):
    place = torch.arange(q.shape[-2], device=q.device, dtype=q.dtype)
    return (place[:, None] - place[None, :]).clamp(min=0)

def divided(self, weight):
    return weight / weight.sum(-1, keepdim=True).clamp(min=1e-6)
"""
_SCALE = "self.scale = nn.Parameter(torch.full((heads,), 0.3))"

LEAKS = [
    "x = x + 0.1 * x.mean(-2, keepdim=True)",
    "x = x + 0.1 * x.roll(-1, -2)",
    "x = x + 0.1 * x.flip(-2).cumsum(-2).flip(-2)",
    "x = x + 0.1 * (x - x.amax(-2, keepdim=True))",
    "x = x * (1 + 0.1 * x.shape[-2])",
    "x = x + 0.1 * (x.mean(0, keepdim=True) if x.dim() == 3 else 0)",
]


@st.composite
def honest(draw: st.DrawFn, cheat: bool = False) -> Program:
    """Draw a mechanism; with `cheat`, one line that leaks or mixes the batch stands before queries and keys."""
    framework = draw(st.sampled_from([MM, CD, TTR]))
    source, extra = draw(st.sampled_from(list(INPUTS.items())))
    feature, other = draw(st.sampled_from(FEATURES)), draw(st.sampled_from(FEATURES))
    score = draw(st.sampled_from(SCORES)) + draw(st.sampled_from(BIASES))
    leak = f"    {draw(st.sampled_from(LEAKS))}\n" if cheat else ""
    query = f"({feature.format('self.split_heads(self.query(x))')})"
    key = f"({other.format('self.split_heads(self.key(x))')})"
    start = f"(self, x):\n{leak}    x = {source}\n    return "
    init = "\n".join(filter(None, [_SCALE, extra]))
    if framework == MM:
        row = draw(st.sampled_from(ROWS)).format(score=score)
        parts = f"def generators{start}{query}, {key}\n\ndef matrix(self, q, k):\n    return {row}\n{HELPERS}"
        return Program(MM, program(MM, parts, init=init))
    parts = f"def queries{start}{query}\n\ndef keys{start}{key}\n"
    if framework == TTR:
        return Program(
            TTR, program(TTR, f"{parts}\ndef log_kernel(self, q, k):\n    return {score}\n{HELPERS}", init=init)
        )
    readout = draw(st.sampled_from(["F.softplus(score)", "torch.sigmoid(score)", "score.square() + 1e-3"]))
    declaration = 'Declaration(readout="other", evolution="identity", normaliser="row_sum")'
    return Program(
        CD,
        program(CD, f"{parts}\ndef readout(self, score):\n    return {readout}\n", init=init, declaration=declaration),
    )

"""Imports, escapes and introspection: ways out of the block. Harmless if they succeed (a marker file at most)."""

from __future__ import annotations

from programs.build import CD, MM, TTR, Program, program

_S = ("syntax",)


def _forward(line: str, **more: str) -> Program:
    """Put one line at the head of `generators`."""
    body = f"""
def generators(self, x):
    {line}
    return self.split_heads(self.query(x)) / math.sqrt(self.head_width), self.split_heads(self.key(x))
"""
    return Program(MM, program(MM, body, **more), _S)


PROGRAMS = {
    "import in the block": Program(MM, program(MM, top="import os\n"), _S),
    "import in a method": _forward("import os; os.mkdir('marker')"),
    "import above the block": Program(CD, program(CD, before="from subprocess import run\n"), _S),
    "star import": Program(MM, program(MM, before="from torch import *\n"), _S),
    "relative import": Program(MM, program(MM, before="from . import x\n"), _S),
    "renamed import": Program(MM, program(MM, before="import torch.utils as nn\n"), _S),
    "import of solvers": Program(
        TTR,
        program(TTR, before="from evomix.mechanisms.test_time_regression.estimators import SOLVERS\n"),
        _S,
    ),
    "__import__": _forward("__import__('os').mkdir('marker')"),
    "torch.os": _forward("torch.os.mkdir('marker')"),
    "torch.sys": _forward("torch.sys.modules"),
    "functional to torch to os": _forward("F.torch.os.mkdir('marker')"),
    "nn.modules walk": _forward("nn.modules.linear.torch.os.mkdir('marker')"),
    "torch.save": _forward("torch.save(x, 'marker')"),
    "torch.load": _forward("x = torch.load('corpus.pt')"),
    "torch.from_file": _forward("x = torch.from_file('marker', True, 4)"),
    "cpp_extension": _forward("torch.utils.cpp_extension.load_inline('a', 'int x;')"),
    "load_library": _forward("torch.ops.load_library('a.so')"),
    "torch.hub": _forward("torch.hub.load('a', 'b')"),
    "TCPStore": _forward("torch.distributed.TCPStore('127.0.0.1', 1, 1)"),
    "torch.jit": _forward("f = torch.jit.script(self.matrix)"),
    "eval": _forward("eval('1')"),
    "exec in the class body": Program(MM, program(MM, body="exec('1')"), _S),
    "open": _forward("open('marker', 'w')"),
    "loader of a module": _forward("math.__loader__.load_module('os')"),
    "alias of a module": _forward("t = torch; t.os.mkdir('marker')"),
    "module in a container": _forward("[torch][0].os.mkdir('marker')"),
    "module as default": Program(MM, program(MM, "def helper(self, t=torch):\n    return t.os"), _S),
    "call as default": Program(MM, program(MM, "def helper(self, t=open('marker', 'w')):\n    return t"), _S),
    "call as annotation": Program(MM, program(MM, "def helper(self, t: open('marker', 'w')):\n    return t"), _S),
    "call as decorator": Program(MM, program(MM, "@torch.compile\ndef helper(self, t):\n    return t"), _S),
    "call in an f-string": _forward("name = f\"{open('marker', 'w')}\""),
    "format string walk": _forward("name = '{0.__class__}'.format(x)"),
    "metaclass": Program(MM, program(MM, bases="MatrixMixer, metaclass=type"), _S),
    "second base": Program(MM, program(MM, bases="MatrixMixer, nn.GRU"), _S),
    "helper class": Program(MM, program(MM, top="class Helper:\n    def __init_subclass__(cls):\n        pass\n"), _S),
    "code above the block": Program(MM, program(MM, before="torch.set_num_threads(1)\n"), _S),
    "code below the block": Program(MM, program(MM, after="Mechanism.width = 1\n"), _S),
    "reference with a decorator": Program(MM, program(MM, after="@print\ndef reference(mechanism):\n    pass\n"), _S),
    "code at the top of the block": Program(MM, program(MM, top="torch.set_num_threads(1)\n"), _S),
    "two blocks": Program(MM, program(MM, after="# EVOLVE-BLOCK-START\n# EVOLVE-BLOCK-END\n"), _S),
    "marker in a string": Program(MM, program(MM, before='s = """\n# EVOLVE-BLOCK-END\n"""\n'), _S),
    "line separator of Unicode": Program(MM, program(MM, before="# \u2028# EVOLVE-BLOCK-END\u2028\nimport os\n"), _S),
    "no class": Program(MM, "import torch\n\n# EVOLVE-BLOCK-START\nx = 1\n# EVOLVE-BLOCK-END\n", _S),
    "subclasses of object": _forward("().__class__.__base__.__subclasses__()"),
    "globals of a method": _forward("self.matrix.__globals__"),
    "globals of a function": _forward("keep_past.__globals__['torch'].os"),
    "getattr": _forward("getattr(self, 'for' + 'ward')"),
    "setattr": _forward("setattr(self, 'training', True)"),
    "dictionary of self": _forward("self.__dict__"),
    "vars": _forward("vars(self)"),
    "frame of a generator": _forward("g = (i for i in [1]); f = g.gi_frame.f_back"),
    "frame by traceback": _forward(
        "try:\n        1 / 0\n    except ZeroDivisionError as e:\n        e.__traceback__.tb_frame"
    ),
    "type": _forward("type(self).forward"),
    "name in full-width letters": _forward("ｅｖａｌ('1')"),
    "getattribute by super": _forward("super().__getattribute__('forward')"),
    "walrus": _forward("(y := x)"),
    "match": _forward("match x:\n        case Tensor(data=d):\n            pass"),
    "async": Program(MM, program(MM, "async def helper(self):\n    pass"), _S),
    "with": _forward("with torch.no_grad():\n        pass"),
}

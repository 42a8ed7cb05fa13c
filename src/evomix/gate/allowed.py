"""What an evolve block may name: the only names, attributes and syntax that the gate lets through (default: deny).

Written out by hand, because deny-lists leak: `torch` alone is a door to files, processes and source code.
"""

from __future__ import annotations

import ast


def _words(text: str, prefix: str = "") -> frozenset[str]:
    return frozenset(prefix + word for word in text.split())


NODES: frozenset[type[ast.AST]] = frozenset(
    getattr(ast, name)
    for name in _words(
        """
        AnnAssign Assert Assign Attribute AugAssign BinOp BoolOp Break Call ClassDef Compare Constant Continue Dict
        DictComp Expr For FormattedValue FunctionDef GeneratorExp If IfExp JoinedStr Lambda List ListComp Module
        Name Pass Raise Return Set Slice Starred Subscript Tuple UnaryOp While arg arguments comprehension
        keyword
        """
    )
)
"""Syntax that may occur; operators and contexts always may."""

BUILTINS = _words(
    """
    False None NotImplementedError True ValueError abs all any bool dict enumerate float int isinstance
    len list max min range reversed round slice sorted staticmethod str sum super tuple zip
    """
)

_TENSOR = _words(
    """
    abs absolute acos acosh add addbmm addcdiv addcmul addmm addmv all amax amin aminmax angle any argmax argmin
    argsort asin asinh atan atan2 atanh baddbmm bitwise_and bitwise_left_shift bitwise_not bitwise_or
    bitwise_right_shift bitwise_xor bmm broadcast_to ceil cholesky_solve chunk clamp clip clone conj cos cosh
    count_nonzero cross cummax cummin cumprod cumsum deg2rad diag diag_embed diagonal diagonal_scatter diff dist div
    divide dot eq erf erfc erfinv exp exp2 expm1 fill flatten flip fliplr flipud floor floor_divide fmax fmin fmod
    frac gather ge greater greater_equal gt heaviside hypot imag index_add index_copy index_fill index_select inner
    isclose isfinite isinf isnan kron kthvalue le lerp less less_equal lgamma log log10 log1p log2 log_softmax
    logaddexp logaddexp2 logcumsumexp logical_and logical_not logical_or logical_xor logit logsumexp lt masked_fill
    masked_scatter masked_select matmul matrix_exp max maximum mean median min minimum mm mode moveaxis movedim mul
    multiply mv nan_to_num nanmean nansum narrow ne neg negative nonzero norm numel outer permute positive pow prod
    quantile real reciprocal relu remainder repeat_interleave reshape roll rot90 round rsqrt scatter scatter_add
    scatter_reduce select select_scatter sigmoid sign signbit sin sinc sinh slice_scatter softmax sort split sqrt
    square squeeze std sub subtract sum swapaxes swapdims t take_along_dim tan tanh tensor_split tensordot tile topk
    trace transpose tril triu true_divide trunc unbind unflatten unsqueeze var vdot view_as_complex view_as_real
    where xlogy
    """
)
"""Operators that exist both as functions of torch and as methods of a tensor."""

_TORCH = _words(
    """
    Size Tensor arange as_tensor atleast_1d atleast_2d atleast_3d bfloat16 block_diag bool broadcast_tensors
    bucketize cartesian_prod cat cdist column_stack complex complex128 complex64 concat concatenate
    cosine_similarity double dstack e einsum eye finfo float float16 float32 float64 full full_like half hstack inf
    int int16 int32 int64 int8 is_complex is_tensor linspace logspace long meshgrid ones ones_like pi polar
    searchsorted stack std_mean tensor trapezoid tril_indices triu_indices uint8 var_mean vstack zeros zeros_like
    """,
    "torch.",
)

_NN = _words(
    """
    AvgPool1d Bilinear Buffer CELU Conv1d ELU Embedding Flatten GELU GroupNorm Hardsigmoid Hardswish Hardtanh
    Identity LayerNorm LeakyReLU Linear LogSigmoid MaxPool1d Mish ModuleDict ModuleList PReLU Parameter
    ParameterDict ParameterList RMSNorm ReLU ReLU6 SELU Sequential SiLU Sigmoid Softmax Softplus Softsign Tanh
    Unflatten
    """,
    "nn.",
)

_FUNCTIONAL = _words(
    """
    avg_pool1d bilinear celu conv1d cosine_similarity elu embedding gelu glu group_norm hardsigmoid hardswish
    hardtanh layer_norm leaky_relu linear log_softmax logsigmoid max_pool1d mish normalize one_hot pad
    pairwise_distance prelu relu relu6 rms_norm scaled_dot_product_attention selu sigmoid silu softmax softmin
    softplus softshrink softsign tanh tanhshrink threshold unfold
    """,
    "F.",
)

_LINALG = _words(
    """
    cholesky cholesky_ex cross det diagonal eigh eigvalsh householder_product inv inv_ex ldl_factor lstsq lu
    lu_factor lu_solve matmul matrix_exp matrix_norm matrix_power multi_dot norm pinv qr slogdet solve solve_ex
    solve_triangular svd svdvals vander vecdot vector_norm
    """,
    "torch.linalg.",
)

_FFT = _words(
    """
    fft fft2 fftfreq fftshift hfft ifft ifft2 ifftshift ihfft irfft irfft2 rfft rfft2 rfftfreq
    """,
    "torch.fft.",
)

_SPECIAL = _words(
    """
    digamma entr erf erfc erfcx erfinv exp2 expit expm1 gammaln i0 i0e i1 i1e log1p log_ndtr log_softmax logit
    logsumexp ndtr ndtri polygamma psi round sinc softmax xlog1py xlogy
    """,
    "torch.special.",
)

_MATH = _words(
    """
    acos acosh asin asinh atan atan2 atanh ceil comb copysign cos cosh degrees dist e erf erfc exp exp2 expm1 fabs
    factorial floor fmod fsum gamma gcd hypot inf isclose isfinite isinf isnan isqrt lcm ldexp lgamma log log10
    log1p log2 perm pi pow prod radians sin sinh sqrt tan tanh tau trunc
    """,
    "math.",
)

DOTTED = frozenset(f"torch.{name}" for name in _TENSOR) | _TORCH | _NN | _FUNCTIONAL | _LINALG | _FFT | _SPECIAL | _MATH
"""Functions, classes and constants of the libraries, by full name."""

_TORCH_DRAWS = _words(
    """
    bernoulli empty empty_like multinomial normal poisson rand rand_like randint randn randn_like randperm
    """,
    "torch.",
)

_INITIALISERS = _words(
    """
    constant_ dirac_ eye_ kaiming_normal_ kaiming_uniform_ normal_ ones_ orthogonal_ sparse_ trunc_normal_ uniform_
    xavier_normal_ xavier_uniform_ zeros_
    """,
    "nn.init.",
)

DRAWS = _TORCH_DRAWS | _INITIALISERS
"""Random or uninitialised numbers: only in `__init__` and `initialise`, where the draws are seeded."""

DRAW_METHODS = _words(
    """
    bernoulli bernoulli_ cauchy_ exponential_ geometric_ log_normal_ multinomial new_empty normal_ random_ uniform_
    """
)

_IN_PLACE = _words(
    """
    add_ addcdiv_ addcmul_ clamp_ clip_ copy_ cumprod_ cumsum_ div_ exp_ expm1_ fill_ fill_diagonal_ index_add_
    index_copy_ index_fill_ index_put_ log1p_ log_ masked_fill_ mul_ neg_ pow_ reciprocal_ relu_ rsqrt_ scatter_
    scatter_add_ sigmoid_ sqrt_ sub_ tanh_ tril_ triu_ zero_
    """
)
"""Never on what the mechanism keeps outside `__init__` and `initialise`; the visitor sees to that."""

_PARTS = _words(
    """
    H T _replace append bfloat16 bias bool contiguous copy count detach device dim double dtype eps expand expand_as
    extend float get half in_features index indices insert int is_complex items keys long mH mT ndim new_full
    new_ones new_tensor new_zeros out_features pop ravel repeat reverse shape size smallest_normal start step stop
    tiny to type_as unfold update values view view_as weight
    """
)
"""Other attributes of tensors, and those of parameters, lists, dictionaries, named tuples and numeric limits."""

METHODS = _TENSOR | _IN_PLACE | _PARTS
"""Attributes of anything that is neither a library nor `self`."""

MUTATORS = _words(
    """
    append clear extend insert pop remove reverse setdefault sort update
    """
)

MODULE_NAMES = _words(
    """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches
    eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict
    modules mtia named_buffers named_children named_modules named_parameters parameters register_backward_hook
    register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook
    register_module register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_
    set_extra_state set_submodule share_memory state_dict to to_empty train training type xpu zero_grad
    """
)
"""Public attributes of nn.Module: fixed, and of no use to a block except to register a buffer in `__init__`."""

MODULE_PRIVATE = _words(
    """
    _apply _backward_hooks _backward_pre_hooks _buffers _call_impl _compiled_call_impl _forward_hooks
    _forward_hooks_always_called _forward_hooks_with_kwargs _forward_pre_hooks _forward_pre_hooks_with_kwargs
    _get_backward_hooks _get_backward_pre_hooks _get_name _is_full_backward_hook _load_from_state_dict
    _load_state_dict_post_hooks _load_state_dict_pre_hooks _maybe_warn_non_full_backward_hook _modules
    _named_members _non_persistent_buffers_set _parameters _register_load_state_dict_pre_hook
    _register_state_dict_hook _replicate_for_data_parallel _save_to_state_dict _slow_forward _state_dict_hooks
    _state_dict_pre_hooks _version _wrapped_call_impl
    """
)

REGISTER = frozenset({"register_buffer", "register_parameter"})

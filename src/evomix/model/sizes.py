"""Parameter counts of the fixed shell with the standard mechanism; plain arithmetic, so that the config can check them.

N counts non-embedding parameters: everything except the token embedding, which is tied to the output head. Positions
are sinusoidal and have no parameters.
"""

FFN_MULTIPLE = 4
"""Width of the feed-forward layer over the model width."""


def non_embedding_parameters(width: int, layers: int) -> int:
    """Return N of the standard variant.

    A block holds four attention projections without bias (4 d²), a GELU feed-forward with biases (8 d² + 5 d) and two
    LayerNorms (4 d); a final LayerNorm (2 d) precedes the head.
    """
    attention = 4 * width * width
    feed_forward = 2 * FFN_MULTIPLE * width * width + (FFN_MULTIPLE + 1) * width
    return layers * (attention + feed_forward + 4 * width) + 2 * width


def embedding_parameters(width: int, vocabulary: int) -> int:
    """Return the parameters of the tied token embedding."""
    return width * vocabulary

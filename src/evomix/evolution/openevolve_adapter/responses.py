"""From a model's response to an edited program, with OpenEvolve's diff tools, or to a reason the model can act on."""

from __future__ import annotations

from openevolve.utils.code_utils import apply_diff_blocks, enforce_evolve_blocks, extract_diffs, parse_full_rewrite


class PatchError(Exception):
    """A response that does not amount to a legal edit; the message is written for the model."""


def apply_response(parent: str, response: str, *, full: bool) -> str:
    """Return the parent's source as a response edits it: SEARCH/REPLACE blocks, or with `full` a whole program.

    Raises PatchError, in words the model can act on: prose, malformed or unmatched blocks, edits outside the block.
    """
    response = response.replace("\r\n", "\n")
    if full:
        if "```" not in response:
            raise PatchError("the response holds no fenced Python code block with the complete program")
        proposed = (parse_full_rewrite(response) or "") + "\n"
    else:
        try:
            blocks = extract_diffs(response)
        except ValueError as error:
            raise PatchError(f"the SEARCH/REPLACE blocks are malformed: {error}") from None
        if not blocks:
            raise PatchError("the response holds no SEARCH/REPLACE block")
        proposed = parent
        for search, replace in blocks:
            if not search.strip():
                raise PatchError("a SEARCH section is empty; it must quote lines of the current program")
            proposed, applied = apply_diff_blocks(proposed, [(search, replace)])
            if not applied:
                first = search.strip().splitlines()[0].strip()
                raise PatchError(f"a SEARCH section does not match the current program, from its line `{first}` on")
    try:
        allowed = enforce_evolve_blocks(parent, proposed)
    except ValueError as error:
        raise PatchError(f"the EVOLVE-BLOCK markers must stay: {error}") from None
    outside = [line for line in proposed.split("\n") if line.strip() and line not in allowed.split("\n")]
    if outside or len(proposed.strip().split("\n")) != len(allowed.strip().split("\n")):
        quoted = f", such as `{outside[0].strip()}`" if outside else ""
        raise PatchError(f"only lines inside the EVOLVE-BLOCK may change; lines outside it were edited{quoted}")
    return str(allowed)

"""Between the wire's messages and the types that the code reasons with. Decoding checks; encoding trusts."""

from __future__ import annotations

from draftpool.errors import BadParameter, MalformedTree, Unsupported
from draftpool.sampling import SamplingParams
from draftpool.tree import DraftTree, TreeShape
from draftpool.v1 import load_pb2, sampling_pb2, tree_pb2, vocabulary_pb2
from draftpool.vocabulary import Vocabulary

_MAX_NODES = 4096
_MAX_DEPTH = 256
"""No service takes trees near these; a message beyond them is refused before it costs anything."""


def tree_from_wire(message: tree_pb2.DraftTree) -> DraftTree:
    """Raises MalformedTree."""
    if max(len(message.token_ids), len(message.parents)) > _MAX_NODES:
        raise MalformedTree(f"a tree of {len(message.token_ids)} nodes; at most {_MAX_NODES} can be sent")
    return DraftTree(tuple(message.token_ids), tuple(message.parents))


def tree_to_wire(tree: DraftTree) -> tree_pb2.DraftTree:
    return tree_pb2.DraftTree(token_ids=tree.token_ids, parents=tree.parents)


def shape_from_wire(message: tree_pb2.TreePolicy) -> TreeShape:
    """Raises BadParameter for a bad factor, Unsupported for a policy this version does not know."""
    if message.WhichOneof("policy") != "branching":
        raise Unsupported("this server draws trees by branching factors only; set TreePolicy.branching")
    factors = tuple(message.branching.factors)
    if len(factors) > _MAX_DEPTH or max(factors, default=1) > _MAX_NODES:
        raise BadParameter(f"at most {_MAX_DEPTH} branching factors of at most {_MAX_NODES} each can be sent")
    return TreeShape(factors)


def shape_to_wire(shape: TreeShape) -> tree_pb2.TreePolicy:
    return tree_pb2.TreePolicy(branching=tree_pb2.Branching(factors=shape.branching))


def sampling_from_wire(message: sampling_pb2.SamplingParams, *, drawn_seed: int | None = None) -> SamplingParams:
    """Fill the defaults in.

    Args:
        drawn_seed: used where the message has no seed; without one, sampling requires a seed.

    Raises:
        BadParameter: a value out of its range, or no seed to sample with.
    """
    temperature = message.temperature if message.HasField("temperature") else 1.0
    seed = message.seed if message.HasField("seed") else drawn_seed
    if seed is None and temperature != 0:
        raise BadParameter("a session that samples (temperature above 0) needs the request's seed")
    return SamplingParams(
        temperature=temperature,
        top_k=message.top_k,
        top_p=message.top_p if message.HasField("top_p") else 1.0,
        seed=seed or 0,
    )


def sampling_to_wire(params: SamplingParams) -> sampling_pb2.SamplingParams:
    return sampling_pb2.SamplingParams(
        temperature=params.temperature, top_k=params.top_k, top_p=params.top_p, seed=params.seed
    )


def require_coupled(rule: sampling_pb2.AcceptanceRule) -> None:
    """Raises Unsupported for the acceptance rules that this version only knows by name."""
    if rule not in (sampling_pb2.ACCEPTANCE_RULE_UNSPECIFIED, sampling_pb2.ACCEPTANCE_RULE_COUPLED):
        raise Unsupported("this server accepts drafts by the coupled rule only; leave acceptance_rule unset")


def vocabulary_from_wire(message: vocabulary_pb2.Vocabulary) -> Vocabulary:
    """Raises BadParameter when the fingerprint is not that of the tokens, or an eos id does not exist."""
    vocabulary = Vocabulary(tuple(message.token_bytes), tuple(message.eos_token_ids))
    if vocabulary.fingerprint != message.fingerprint:
        raise BadParameter(
            f"the vocabulary's fingerprint is {vocabulary.fingerprint}, the message says {message.fingerprint!r}"
        )
    if any(token_id >= len(vocabulary) for token_id in vocabulary.eos_token_ids):
        raise BadParameter(f"eos_token_ids {list(vocabulary.eos_token_ids)} go beyond {len(vocabulary)} tokens")
    return vocabulary


def vocabulary_to_wire(vocabulary: Vocabulary) -> vocabulary_pb2.Vocabulary:
    return vocabulary_pb2.Vocabulary(
        fingerprint=vocabulary.fingerprint,
        token_bytes=vocabulary.token_bytes,
        eos_token_ids=vocabulary.eos_token_ids,
    )


def load_to_wire(*, num_sessions: int, max_sessions: int, num_waiting: int) -> load_pb2.ReplicaLoad:
    return load_pb2.ReplicaLoad(num_sessions=num_sessions, max_sessions=max_sessions, num_waiting=num_waiting)

"""Between the wire's messages and the types that the code reasons with. Decoding checks; encoding trusts."""

from __future__ import annotations

from collections.abc import Sequence

from draftpool.errors import BadParameter, MalformedTree, Unsupported
from draftpool.sampling import MAX_TOP_LOGPROBS, Grammar, SamplingParams
from draftpool.tree import DraftTree, TreeShape
from draftpool.tree_policy import BestFirst, TreePolicy
from draftpool.v1 import load_pb2, sampling_pb2, tree_pb2, vocabulary_pb2
from draftpool.vocabulary import Vocabulary

_MAX_UINT32 = 2**32 - 1
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


def policy_from_wire(message: tree_pb2.TreePolicy) -> TreePolicy:
    """Raises BadParameter for numbers out of range, Unsupported for a policy this version does not know."""
    match message.WhichOneof("policy"):
        case "branching":
            return _shape_from_wire(message)
        case "best_first":
            budget = message.best_first
            if budget.max_nodes > _MAX_NODES or budget.max_depth > _MAX_DEPTH:
                raise BadParameter(f"at most {_MAX_NODES} nodes and {_MAX_DEPTH} levels can be asked for")
            return BestFirst(budget.max_nodes, budget.max_depth)
    raise Unsupported("this server draws trees by branching factors or best first; set one of TreePolicy")


def _shape_from_wire(message: tree_pb2.TreePolicy) -> TreeShape:
    factors = tuple(message.branching.factors)
    if len(factors) > _MAX_DEPTH or max(factors, default=1) > _MAX_NODES:
        raise BadParameter(f"at most {_MAX_DEPTH} branching factors of at most {_MAX_NODES} each can be sent")
    return TreeShape(factors)


def policy_to_wire(policy: TreePolicy) -> tree_pb2.TreePolicy:
    if isinstance(policy, BestFirst):
        budget = tree_pb2.BestFirst(max_nodes=policy.max_nodes, max_depth=policy.max_depth)
        return tree_pb2.TreePolicy(best_first=budget)
    return tree_pb2.TreePolicy(branching=tree_pb2.Branching(factors=policy.branching))


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
        min_p=message.min_p,
        typical_p=message.typical_p if message.HasField("typical_p") else 1.0,
        repetition_penalty=message.repetition_penalty if message.HasField("repetition_penalty") else 1.0,
        presence_penalty=message.presence_penalty,
        frequency_penalty=message.frequency_penalty,
        logit_bias=tuple(sorted(message.logit_bias.items())),
        allowed_token_ids=tuple(message.allowed_token_ids),
        banned_token_ids=tuple(message.banned_token_ids),
        min_new_tokens=message.min_new_tokens,
        stop_token_ids=tuple(message.stop_token_ids),
        grammar=_grammar_from_wire(message.grammar) if message.HasField("grammar") else None,
    )


def sampling_to_wire(params: SamplingParams) -> sampling_pb2.SamplingParams:
    """What has its default is left out, but for the parameters that every request has."""
    message = sampling_pb2.SamplingParams(
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        seed=params.seed,
        logit_bias=dict(params.logit_bias),
        allowed_token_ids=params.allowed_token_ids,
        banned_token_ids=params.banned_token_ids,
        min_new_tokens=params.min_new_tokens,
        stop_token_ids=params.stop_token_ids,
        grammar=None if params.grammar is None else grammar_to_wire(params.grammar),
    )
    for name in ("min_p", "typical_p", "repetition_penalty", "presence_penalty", "frequency_penalty"):
        if getattr(params, name) != getattr(SamplingParams, name):
            setattr(message, name, getattr(params, name))
    return message


def _grammar_from_wire(message: sampling_pb2.Grammar) -> Grammar:
    match message.WhichOneof("source"):
        case "json_schema":
            return Grammar("json_schema", message.json_schema)
        case "regex":
            return Grammar("regex", message.regex)
        case "lark":
            return Grammar("lark", message.lark)
    raise BadParameter("a grammar needs a json_schema, a regex or a lark source")


def grammar_to_wire(grammar: Grammar) -> sampling_pb2.Grammar:
    return sampling_pb2.Grammar(**{grammar.kind: grammar.source})


def num_top_logprobs_from_wire(num_top_logprobs: int, vocab_size: int) -> int:
    """As many as the vocabulary has. Raises BadParameter."""
    if num_top_logprobs > MAX_TOP_LOGPROBS:
        raise BadParameter(f"num_top_logprobs must be at most {MAX_TOP_LOGPROBS}, got {num_top_logprobs}")
    return min(num_top_logprobs, vocab_size)


def is_rejection(rule: sampling_pb2.AcceptanceRule) -> bool:
    """Whether drafts are drawn, to be accepted by the rejection rule; coupled where nothing is said.

    Raises:
        Unsupported: a rule that this version does not know.
    """
    if rule == sampling_pb2.ACCEPTANCE_RULE_REJECTION:
        return True
    if rule not in (sampling_pb2.ACCEPTANCE_RULE_UNSPECIFIED, sampling_pb2.ACCEPTANCE_RULE_COUPLED):
        raise Unsupported(f"this server accepts drafts by the coupled or the rejection rule; it has no rule {rule}")
    return False


def rows_to_wire(rows: Sequence[Sequence[tuple[int, float]]]) -> tree_pb2.SparseRows:
    """(token id, probability) of each row, flat."""
    return tree_pb2.SparseRows(
        row_lengths=map(len, rows),
        token_ids=[token_id for row in rows for token_id, _ in row],
        probs=[prob for row in rows for _, prob in row],
    )


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


def load_to_wire(
    *,
    num_sessions: int,
    max_sessions: int,
    num_waiting: int,
    busy_share: float,
    queue_s: float,
    budget_share: float = 0.0,
) -> load_pb2.ReplicaLoad:
    return load_pb2.ReplicaLoad(
        num_sessions=num_sessions,
        max_sessions=max_sessions,
        num_waiting=num_waiting,
        busy_share=busy_share,
        queue_us=min(int(1e6 * queue_s), _MAX_UINT32),
        budget_share=budget_share,
    )

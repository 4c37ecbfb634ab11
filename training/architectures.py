"""The three embedded models, as Hugging Face configurations."""

from dataclasses import dataclass

from transformers import GPTNeoXConfig, LlamaConfig, MambaConfig, PreTrainedConfig

from training.bpe import END_OF_TEXT_ID, MAX_POSITIONS, TOKENIZERS


@dataclass(frozen=True)
class Architecture:
    """One model: its configuration and the tokenizer that it reads with."""

    config: PreTrainedConfig
    """What `AutoModelForCausalLM.from_config` builds."""
    tokenizer: str
    """A key of `training.bpe.TOKENIZERS`."""
    residual_outputs: tuple[str, ...]
    """Suffixes of the matrices that write into the residual stream; they start at zero."""
    num_windows: int = 8
    """Windows in a training batch unless the command line says otherwise."""


def tiny_llama() -> Architecture:
    """About 14.7 M parameters: the larger target."""
    config = LlamaConfig(
        vocab_size=TOKENIZERS["tiny-llama"].vocab_size,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=16,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=END_OF_TEXT_ID,
    )
    return Architecture(config, "tiny-llama", ("o_proj.weight", "down_proj.weight"))


def tiny_neox() -> Architecture:
    """About 11 M parameters: another architecture and another tokenizer than tiny-llama's."""
    config = GPTNeoXConfig(
        vocab_size=TOKENIZERS["tiny-neox"].vocab_size,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=12,
        num_attention_heads=4,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=END_OF_TEXT_ID,
    )
    return Architecture(config, "tiny-neox", ("attention.dense.weight", "dense_4h_to_h.weight"))


def tiny_mamba_drafter() -> Architecture:
    """About 2.3 M parameters: the drafter, a Mamba-1 with tiny-llama's tokenizer."""
    config = MambaConfig(
        vocab_size=TOKENIZERS["tiny-llama"].vocab_size,
        hidden_size=192,
        num_hidden_layers=3,
        state_size=16,
        expand=2,
        conv_kernel=4,
        tie_word_embeddings=True,
        residual_in_fp32=True,
        bos_token_id=None,
        eos_token_id=END_OF_TEXT_ID,
    )
    return Architecture(config, "tiny-llama", ("out_proj.weight",), num_windows=4)


ARCHITECTURES = {
    "tiny-llama": tiny_llama,
    "tiny-neox": tiny_neox,
    "tiny-mamba-drafter": tiny_mamba_drafter,
}
"""Every embedded model by name."""

def mamba_logits(model, token_ids): raise NotImplementedError

"""Adapters make a frozen model trainable in few parameters. The family's contract:

- `Settings` has a field `learning_rate`;
- `check(config, settings)`: raise InputError when the model, of which `config` is the parsed
  config.json, cannot take this adapter; imports no torch;
- `attach(model, settings, head_modules) -> PeftModel`: freeze `model` and put the adapter into it;
  the modules named in `head_modules` stay trainable and are saved with the adapter. Start weights
  come from torch's global generator, so the caller seeds it;
- `load(model, folder) -> PeftModel`: put into a fresh base model what `save_pretrained` wrote.
"""

"""What a run outlives: kills, damaged checkpoints, losses that are no numbers, too little memory.

`seal` and `checkpoints` say which checkpoints are whole, `sealed_checkpoints` is the callback for
any `Trainer`, `bad_losses`, `halves` and `logged_loss` are an idea each, and `recovering` is what
`MaskingTrainer` has of all of them.
"""

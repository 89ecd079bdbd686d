"""From file to file: task vectors, checkpoints, LoRAs."""

"""What every program needs: durable files, configs, signals, progress."""

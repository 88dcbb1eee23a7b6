"""Settings of a run that lasts milliseconds, on a busy machine too."""

# 20 iterations of 256 steps, without evaluations on the way.
SETTINGS = {
    "total_timesteps": 5120,
    "num_envs": 16,
    "num_steps": 16,
    "update_epochs": 1,
    "num_minibatches": 1,
    "hidden_width": 16,
    "eval_every": 0,
    "target_return": None,
    "eval_episodes": 10,
}

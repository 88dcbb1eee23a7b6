// Keys by other names: what libraries, papers and habit call them. For error messages; see config.hpp.
#include <algorithm>
#include <string>
#include <vector>

#include "host/base/text.hpp"
#include "host/settings/config.hpp"

namespace perilune {
namespace {

struct Aliases {
  std::string_view key;
  std::vector<std::string_view> names;
};

// Only names whose letters alone would lead to another key, or nearly.
const std::vector<Aliases>& aliases() {
  static const std::vector<Aliases> table = {
      {"learning_rate", {"lr", "step_size", "pi_lr", "actor_lr", "actor_learning_rate"}},
      {"critic_learning_rate", {"critic_lr", "vf_lr", "value_lr"}},
      {"anneal_lr", {"lr_schedule", "lr_decay"}},
      {"desired_kl", {"kl_threshold", "lr_kl_target", "adaptive_kl"}},
      {"min_learning_rate", {"min_lr", "lr_min"}},
      {"max_learning_rate", {"max_lr", "lr_max"}},
      {"total_timesteps", {"steps", "timesteps", "n_timesteps", "num_timesteps", "total_steps", "max_steps"}},
      {"max_episode_steps", {"max_ep_len", "time_limit", "max_timesteps_per_episode"}},
      {"env_id", {"env", "environment"}},
      {"num_envs", {"envs", "n_envs", "num_workers", "num_actors"}},
      {"num_steps",
       {"n_steps", "nsteps", "horizon", "rollout_length", "rollout_steps", "unroll_length", "timesteps_per_batch"}},
      {"num_minibatches",
       {"batch_size", "minibatch_size", "mini_batch_size", "minibatches", "n_minibatch", "n_minibatches"}},
      {"update_epochs", {"epochs", "n_epochs", "num_epochs", "k_epochs", "n_updates_per_iteration"}},
      {"policy_iterations", {"train_pi_iters"}},
      {"value_iterations", {"train_v_iters"}},
      {"gamma", {"discount", "discount_factor"}},
      {"gae_lambda", {"lam", "lambda", "gae", "tau"}},
      {"bootstrap_truncated", {"bootstrap", "handle_timeout_termination", "timeout_bootstrap", "value_bootstrap"}},
      {"clip_coef", {"clip", "clip_eps", "clip_param", "clip_range", "clip_ratio", "clip_epsilon"}},
      {"clip_vloss", {"vf_clip", "clip_value_loss"}},
      {"clip_vloss_coef", {"clip_range_vf", "vf_clip_param", "value_clip", "clip_value"}},
      {"anneal_ent_coef", {"anneal_ent", "ent_coef_schedule", "entropy_schedule", "entropy_decay"}},
      {"anneal_clip_coef", {"anneal_clip", "clip_schedule", "clip_range_schedule"}},
      {"ent_coef", {"entropy", "entropy_coef", "entropy_coeff", "entropy_coefficient"}},
      {"vf_coef", {"value_coef", "value_loss_coef"}},
      {"target_kl", {"kl", "max_kl", "kl_target", "early_stop_kl"}},
      {"adam_epsilon", {"eps", "epsilon", "adam_eps"}},
      {"adam_beta1", {"beta1"}},
      {"adam_beta2", {"beta2"}},
      {"max_grad_norm", {"grad_clip", "clip_grad_norm", "gradient_clip"}},
      {"norm_obs",
       {"normalize", "normalise", "obs_norm", "norm_observations", "normalize_observations", "normalize_input",
        "empirical_normalization"}},
      {"norm_reward", {"reward_norm", "norm_rewards", "normalize_reward", "normalize_value"}},
      {"norm_adv", {"normalize_advantage", "normalise_advantage"}},
      {"hidden_sizes", {"hidden", "layers", "net_arch", "hiddens", "hidden_size"}},
      {"hidden_width", {"width", "hidden_dim", "hidden_units"}},
      {"hidden_layers", {"num_layers", "n_layers", "depth"}},
      {"activation", {"activation_fn", "nonlinearity"}},
      {"output_activation", {"output_nonlinearity", "final_activation", "last_activation"}},
      {"init", {"weight_init", "initialization", "initialisation", "ortho_init", "kernel_initializer"}},
      {"log_std_init", {"log_std", "init_log_std"}},
      {"learn_std", {"learn_log_std", "fixed_std"}},
      {"precision", {"dtype"}},
      {"eval_every", {"eval_freq", "eval_interval"}},
      {"eval_episodes", {"n_eval_episodes"}},
      {"target_return", {"reward_threshold", "target_reward"}},
      {"checkpoint_every", {"save_freq", "checkpoint_interval"}},
      {"name", {"exp_name", "run_name"}},
  };
  return table;
}

}  // namespace

std::string_view nearest_key(std::string_view name) {
  std::string plain(name.substr(0, 64));
  for (char& letter : plain) {
    letter = letter == '-' ? '_' : letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + 32) : letter;
  }
  for (const Aliases& row : aliases()) {
    if (std::find(row.names.begin(), row.names.end(), plain) != row.names.end()) return row.key;
  }
  const std::string parameter = "env." + plain;
  std::vector<std::string_view> names;
  for (const KeyInfo& info : config_keys()) {
    if (info.name == plain || info.name == parameter) return info.name;
    names.push_back(info.name);
  }
  return nearest(name, names);
}

}  // namespace perilune

// See state_dictionary.hpp.
#include "host/runs/state_dictionary.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

#include "host/base/error.hpp"
#include "host/base/files.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"
#include "host/runs/torch_file.hpp"
#include "host/settings/environment_settings.hpp"

namespace perilune {
namespace {

constexpr const char* kActor = "actor";
constexpr const char* kCritic = "critic";
constexpr const char* kActorFile = "actor_nn.pt";
constexpr const char* kCriticFile = "critic_nn.pt";
constexpr const char* kInputLayer = "input_layer.";
constexpr const char* kHiddenLayer = "hidden_layer.";
constexpr const char* kOutputLayer = "output_layer.";
constexpr const char* kGaussianActor = "actor_mean.";  // with continuous actions CleanRL's actor says their means
constexpr const char* kLogStd = "actor_logstd";
constexpr std::array<const char*, 3> kLogStdNames = {kLogStd, "log_std", kLogStdName};
constexpr int kMostNamedLayers = 2;  // hidden ones that input_layer and hidden_layer give

// What a network's tensors are called.
struct Naming {
  bool by_layer;       // input_layer, hidden_layer, output_layer; else 0, 2, 4 ... as in a Sequential
  std::string prefix;  // "actor."

  // Of the layer `number` of `hidden` and one. kind: "weight" or "bias".
  std::string key(int number, int hidden, std::string_view kind) const {
    if (!by_layer) return formatted("{}{}.{}", prefix, 2 * number, kind);
    return std::string(number == 0 ? kInputLayer : number == hidden ? kOutputLayer : kHiddenLayer) + std::string(kind);
  }
};

// The key of each tensor of a model under these namings, by the tensor's name; log_std is not among them.
std::map<std::string, std::string> keys_of(const Model& model, const Naming& actor, const Naming& critic) {
  std::map<std::string, std::string> keys;
  for (const auto& [network, name, naming] :
       {std::tuple(&model.actor, kActor, &actor), std::tuple(&model.critic, kCritic, &critic)}) {
    for (int layer = 0; layer <= network->depth; ++layer) {
      for (const char* kind : {"weight", "bias"}) {
        keys[formatted("{}.{}.{}", name, 2 * layer, kind)] = naming->key(layer, network->depth, kind);
      }
    }
  }
  return keys;
}

std::string text_of(const Shape& shape) { return formatted("[{}]", joined(shape)); }

// What a policy has besides its networks, such as statistics of observations, is in none of the layouts.
void require_networks_alone(const Model& model, const std::map<std::string, std::string>& keys) {
  for (const ModelTensor& tensor : model.tensors) {
    if (keys.contains(tensor.name) || tensor.name == kLogStdName) continue;
    throw UsageError(
        formatted("{} is part of the policy, but no state dictionary holds it - allowed: policies of networks alone, "
                  "without normalised observations or rewards",
                  tensor.name));
  }
}

bool is_actors(const ModelTensor& tensor) { return tensor.name.starts_with("actor."); }

// ---- export ----

void require_ending(const std::filesystem::path& to, StateLayout layout) {
  const bool is_file = to.extension() == ".pt" || to.extension() == ".pth";
  if (layout == StateLayout::kSequential && !is_file) {
    throw UsageError(
        formatted("{} is no name for a state dictionary - allowed: names that end in .pt or .pth", to.string()));
  }
  if (layout == StateLayout::kLayers &&
      (is_file || (std::filesystem::exists(to) && !std::filesystem::is_directory(to)))) {
    throw UsageError(formatted("{} is no directory, but this layout has two files, {} and {} - name a directory",
                               to.string(), kActorFile, kCriticFile));
  }
}

// ---- import ----

// A file, and which of its tensors were asked for.
class Source {
 public:
  explicit Source(const std::filesystem::path& path) : file_(TorchFile::load(existing(path))) {}

  const std::string& name() const { return file_.source(); }
  bool has(const std::string& key) const { return file_.find(key) != nullptr; }

  const TorchTensor& take(const std::string& key) {
    const TorchTensor* tensor = file_.find(key);
    if (tensor == nullptr) {
      throw Error(formatted("{} has no tensor {} - it has {} - give a state dictionary of an actor and a critic",
                            name(), in_quotes(key), held()));
    }
    taken_.insert(key);
    rounds_ = rounds_ || tensor->type == TorchType::kDouble;
    return *tensor;
  }

  void copy(const TorchTensor& tensor, std::span<float> to) const {
    const std::vector<float> numbers = file_.numbers(tensor);
    std::copy(numbers.begin(), numbers.end(), to.begin());
  }

  void require_all_taken() const {
    for (const TorchTensor& tensor : file_.tensors()) {
      if (taken_.contains(tensor.name)) continue;
      throw Error(formatted("{} has a tensor {} {} that no layer takes - allowed: {} - leave it out when saving",
                            name(), in_quotes(tensor.name), text_of(tensor.shape),
                            joined(std::vector<std::string_view>(taken_.begin(), taken_.end()))));
    }
  }

  bool rounds() const { return rounds_; }

  // Its keys, to show.
  std::string held() const {
    constexpr std::size_t kMost = 8;
    std::string text;
    for (std::size_t i = 0; i < std::min(kMost, file_.tensors().size()); ++i) {
      text += (i == 0 ? "" : ", ") + in_quotes(file_.tensors()[i].name);
    }
    if (file_.tensors().size() > kMost) text += formatted(" and {} more", file_.tensors().size() - kMost);
    return text.empty() ? "no tensors" : text;
  }

 private:
  static const std::filesystem::path& existing(const std::filesystem::path& path) {
    std::error_code error;
    if (std::filesystem::is_regular_file(path, error)) return path;
    throw UsageError(
        formatted("{} is no file - give a state dictionary that torch.save or perilune export wrote", path.string()));
  }

  TorchFile file_;
  std::set<std::string, std::less<>> taken_;
  bool rounds_ = false;
};

// What the tensors of one network in a file are called. alone: the file has no other network.
Naming naming_in(const Source& source, std::string_view network, std::initializer_list<std::string> prefixes,
                 bool alone) {
  for (const std::string& prefix : prefixes) {
    if (source.has(prefix + "0.weight")) return {false, prefix};
  }
  const Naming plain = {false, ""}, by_layer = {true, ""};
  for (const Naming& naming : {plain, by_layer}) {
    if (!source.has(naming.key(0, 1, "weight"))) continue;
    if (alone) return naming;
    throw Error(formatted("{} holds one network ({}) - give the actor's file and then the critic's", source.name(),
                          source.held()));
  }
  throw Error(
      formatted("{} holds no {}: it has {} - allowed: {}.0.weight and so on, as in a Sequential, or "
                "{}weight, {}weight and {}weight in files of their own",
                source.name(), network, source.held(), network, kInputLayer, kHiddenLayer, kOutputLayer));
}

// Inputs, hidden units and outputs of a network's layers, as the shapes of its weights say.
std::vector<std::int64_t> sizes_in(Source& source, const Naming& naming) {
  int hidden = 0;
  if (naming.by_layer) {
    hidden = source.has(naming.key(1, kMostNamedLayers, "weight")) ? kMostNamedLayers : 1;
  } else {
    while (hidden <= kMaxHiddenLayers && source.has(naming.key(hidden + 1, hidden + 1, "weight"))) ++hidden;
  }
  std::vector<std::int64_t> sizes;
  for (int layer = 0; layer <= hidden; ++layer) {
    const std::string key = naming.key(layer, hidden, "weight");
    const Shape& shape = source.take(key).shape;
    if (shape.size() != 2 || (layer > 0 && static_cast<std::int64_t>(shape[1]) != sizes.back())) {
      throw Error(formatted("{}: tensor {} has shape {} - allowed: [outputs, {}], as weights of a Linear have",
                            source.name(), in_quotes(key), text_of(shape),
                            layer == 0 ? "inputs" : std::to_string(sizes.back())));
    }
    if (layer == 0) sizes.push_back(static_cast<std::int64_t>(shape[1]));
    sizes.push_back(static_cast<std::int64_t>(shape[0]));
  }
  return sizes;
}

void require_same_hidden_layers(const std::vector<std::int64_t>& actor, const std::vector<std::int64_t>& critic,
                                const std::string& source) {
  if (std::equal(actor.begin(), actor.end() - 1, critic.begin(), critic.end() - 1)) return;
  throw Error(
      formatted("{}: the actor's layers are {}, the critic's {} - allowed: both with the same inputs and hidden layers",
                source, joined(actor, "-"), joined(critic, "-")));
}

// Copies the tensor of this key to its place in the policy's parameters, `to`.
void copy_tensor(Source& source, const std::string& key, const ModelTensor& place, const Config& config,
                 std::span<float> to) {
  const TorchTensor& tensor = source.take(key);
  if (tensor.shape != place.shape) {
    throw Error(
        formatted("{}: tensor {} has shape {}, but the {} of {} with hidden layers of {} has {} - set another "
                  "env_id, or give another file",
                  source.name(), in_quotes(key), text_of(tensor.shape), is_actors(place) ? kActor : kCritic,
                  config.env_id, joined(layer_sizes(config)), text_of(place.shape)));
  }
  source.copy(tensor, to);
}

// What must be told beside the weights: by a preset or by itself.
class Told {
 public:
  Told(const ConfigSource& source, const ResolvedConfig& resolved)
      : by_preset_(source.preset_name.has_value()), keys_(resolved.given) {}

  bool is_given(std::string_view key) const { return std::find(keys_.begin(), keys_.end(), key) != keys_.end(); }
  void require(std::string_view key, std::string_view allowed) const {
    if (by_preset_ || is_given(key)) return;
    throw UsageError(
        formatted("weights do not tell {} - allowed: {} - give it with --set {}=..., or a preset", key, allowed, key));
  }

 private:
  bool by_preset_;
  const std::vector<std::string>& keys_;
};

// The environments that a network with these inputs and outputs would fit.
std::string fitting_environments(const std::vector<std::int64_t>& sizes) {
  std::vector<std::string_view> ids;
  for (const EnvironmentInfo& environment : environments()) {
    if (environment.observation_dim() == sizes.front() && environment.action_space.size == sizes.back()) {
      ids.push_back(environment.id);
    }
  }
  return ids.empty() ? formatted("none, with {} observations and {} actions", sizes.front(), sizes.back())
                     : joined(ids);
}

void set_hidden_layers(Config& config, const Told& told, const std::vector<std::int64_t>& sizes,
                       const std::string& source) {
  const std::vector<std::int64_t> hidden(sizes.begin() + 1, sizes.end() - 1);
  if (hidden.empty()) {
    throw Error(
        formatted("{}: its actor has one layer - allowed: 1 to {} hidden ones and the last", source, kMaxHiddenLayers));
  }
  if (joined(hidden) == joined(layer_sizes(config))) return;
  for (const char* key : {"hidden_sizes", "hidden_width", "hidden_layers"}) {
    if (!told.is_given(key)) continue;
    throw UsageError(formatted("{} = {}, but {} has hidden layers of {} - leave {} out", key, value_text(config, key),
                               source, joined(hidden), key));
  }
  try {
    set_key(config, "hidden_sizes", hidden);
  } catch (const UsageError& error) {
    throw Error(formatted("{}: {}", source, error.what()));  // the file is wrong, not what was asked for
  }
}

void require_action_kind(const Source& source, const EnvironmentInfo& environment) {
  if (environment.action_space.continuous) return;
  for (const char* key : kLogStdNames) {
    if (!source.has(key)) continue;
    throw Error(
        formatted("{} has {}, as policies of continuous actions have, but those of {} are discrete - set another "
                  "env_id, or give another file",
                  source.name(), in_quotes(key), environment.id));
  }
}

// Fills in log_std. Returns what is to be said of it.
std::vector<std::string> take_log_std(Source& source, const Told& told, const Config& config, std::span<float> to) {
  for (const char* key : kLogStdNames) {
    if (!source.has(key)) continue;
    const TorchTensor& tensor = source.take(key);
    if (tensor.shape != Shape{to.size()} && tensor.shape != Shape{1, to.size()}) {
      throw Error(formatted("{}: tensor {} has shape {} - allowed: [1, {}]", source.name(), in_quotes(key),
                            text_of(tensor.shape), to.size()));
    }
    source.copy(tensor, to);
    return {};
  }
  told.require("log_std_init", "the logarithm of the actions' standard deviation");
  std::fill(to.begin(), to.end(), static_cast<float>(config.log_std_init));
  return {formatted("{} tells no standard deviations: their logarithm is log_std_init = {}", source.name(),
                    shortest_text(config.log_std_init))};
}

}  // namespace

ExportedState export_state(const SavedPolicy& policy, StateLayout layout, const std::filesystem::path& to) {
  require_ending(to, layout);
  const Model model = model_of(policy.config);
  const bool by_layer = layout == StateLayout::kLayers;
  if (by_layer && model.actor.depth > kMostNamedLayers) {
    throw UsageError(
        formatted("the policy has hidden layers of {} - allowed: 1 or 2 in this layout - take --layout "
                  "sequential",
                  joined(layer_sizes(policy.config))));
  }
  const bool gaussian = find_environment(policy.config.env_id).action_space.continuous;
  const Naming actor = {by_layer, gaussian ? kGaussianActor : "actor."}, critic = {by_layer, "critic."};
  const std::map<std::string, std::string> keys = keys_of(model, actor, critic);
  require_networks_alone(model, keys);

  ExportedState exported;
  std::vector<Tensor> actors, critics;
  for (const ModelTensor& tensor : model.tensors) {
    const std::span<const float> numbers = std::span(policy.parameters).subspan(tensor.offset, tensor.size);
    const auto key = keys.find(tensor.name);
    if (key != keys.end()) {
      (is_actors(tensor) ? actors : critics).push_back(make_tensor(key->second, tensor.shape, numbers));
    } else if (!by_layer) {
      actors.push_back(make_tensor(kLogStd, {1, tensor.size}, numbers));
    } else {
      std::string texts;
      for (const float number : numbers) texts += formatted("{}{:.9g}", texts.empty() ? "" : ", ", number);
      exported.notes.push_back(
          formatted("the logarithms of the actions' standard deviations ({}) are not in this layout", texts));
    }
  }
  if (!by_layer) {
    actors.insert(actors.end(), critics.begin(), critics.end());
    exported.files = {to};
    replace_file(to, torch_file(actors));
    return exported;
  }
  const std::string actor_file = torch_file(actors), critic_file = torch_file(critics);
  std::error_code error;
  std::filesystem::create_directories(to, error);
  if (error) fail_io("create directory", to, error.value());
  exported.files = {to / kActorFile, to / kCriticFile};
  replace_file(exported.files[0], actor_file);
  replace_file(exported.files[1], critic_file);
  return exported;
}

ImportedState import_state(const StateFiles& files, const ConfigSource& settings, const std::filesystem::path& to) {
  if (to.extension() != ".safetensors") {
    throw UsageError(
        formatted("{} is no name for a policy file - allowed: names that end in .safetensors", to.string()));
  }
  const ResolvedConfig resolved = resolve(settings);
  const Told told(settings, resolved);
  Source first(files.file);
  std::optional<Source> second;
  if (files.critic) second.emplace(*files.critic);
  Source& critic_source = second ? *second : first;
  const Naming actor = naming_in(first, kActor, {"actor.", kGaussianActor}, second.has_value());
  const Naming critic = naming_in(critic_source, kCritic, {"critic."}, second.has_value());
  const std::vector<std::int64_t> sizes = sizes_in(first, actor), critic_sizes = sizes_in(critic_source, critic);
  require_same_hidden_layers(sizes, critic_sizes, critic_source.name());
  told.require("env_id", fitting_environments(sizes));
  told.require("activation", find_key("activation").allowed);

  ImportedState imported{{resolved.config, {}, 0, {}}, {}};
  Config& config = imported.policy.config;
  for (const auto& [key, is_set] : {std::pair("norm_obs", config.norm_obs), {"norm_reward", config.norm_reward}}) {
    if (!is_set) continue;
    throw UsageError(formatted(
        "{} = true, but a state dictionary holds networks alone, without statistics - set {} = false", key, key));
  }
  validate_environment(config);
  require_action_kind(first, find_environment(config.env_id));
  set_hidden_layers(config, told, sizes, first.name());
  const Model model = model_of(config);
  const std::map<std::string, std::string> keys = keys_of(model, actor, critic);
  require_networks_alone(model, keys);
  std::vector<float>& parameters = imported.policy.parameters;
  parameters.assign(model.floats, 0.0f);
  for (const ModelTensor& place : model.tensors) {
    const std::span<float> values = std::span(parameters).subspan(place.offset, place.size);
    if (place.name == kLogStdName) {
      for (std::string& note : take_log_std(first, told, config, values)) imported.notes.push_back(std::move(note));
      continue;
    }
    copy_tensor(is_actors(place) ? first : critic_source, keys.at(place.name), place, config, values);
  }
  for (const Source* source : {&std::as_const(first), &std::as_const(critic_source)}) {
    source->require_all_taken();
    if (source->rounds()) {
      imported.notes.push_back(formatted("{} has float64 numbers, which are rounded to float32", source->name()));
    }
    if (!second) break;
  }
  imported.policy.metadata = {{"from_path", std::filesystem::absolute(files.file).lexically_normal().string()}};
  save_policy(to, imported.policy);
  return imported;
}

std::string layers_text(const Config& config) {
  std::map<std::string, std::string> layers;
  for (const ModelTensor& tensor : model_of(config).tensors) {
    if (tensor.shape.size() != 2) continue;
    std::string& text = layers[is_actors(tensor) ? kActor : kCritic];
    if (text.empty()) text = std::to_string(tensor.shape[1]);
    text += formatted("-{}", tensor.shape[0]);
  }
  std::string text = formatted("actor {}, critic {}, {} between layers", layers[kActor], layers[kCritic],
                               value_text(config, "activation"));
  if (config.output_activation != OutputActivation::kNone) {
    text += formatted(", {} of the outputs", value_text(config, "output_activation"));
  }
  return text;
}

}  // namespace perilune

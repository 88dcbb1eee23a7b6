// Policies go out and come back with the same bits in every layout; what weights do not tell must be told, and files of
// other networks are refused by the tensor's name.
#include "host/runs/state_dictionary.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "host/base/error.hpp"
#include "host/base/text.hpp"
#include "host/runs/torch_file.hpp"
#include "tests/support/temporary_directory.hpp"
#include "tests/support/usage_error.hpp"

namespace perilune {
namespace {

using test::usage_error;
using testing::AllOf;
using testing::HasSubstr;

SavedPolicy random_policy(const std::string& env_id, const std::string& hidden_sizes, std::int64_t seed = 3) {
  SavedPolicy policy;
  set_key(policy.config, "env_id", env_id);
  set_key(policy.config, "hidden_sizes", hidden_sizes);
  set_key(policy.config, "activation", "relu");
  set_key(policy.config, "seed", seed);
  if (find_environment(env_id).action_space.continuous) set_key(policy.config, "log_std_init", -0.375);
  policy.parameters = initial_parameters(model_of(policy.config), policy.config);
  return policy;
}

ConfigSource settings_of(const SavedPolicy& policy) {
  return {{}, {}, {{"env_id", policy.config.env_id}, {"activation", value_text(policy.config, "activation")}}};
}
const ConfigSource kCartPolePreset = {"cartpole", {}, {}};

struct Files {
  test::TemporaryDirectory directory;
  std::filesystem::path state = directory / "state.pth", policy = directory / "policy.safetensors";
  std::filesystem::path actor = directory / "actor_nn.pt", critic = directory / "critic_nn.pt";
};

using Shapes = std::vector<std::pair<std::string, Shape>>;

Shapes shapes_in(const std::filesystem::path& path) {
  Shapes shapes;
  const TorchFile file = TorchFile::load(path);
  for (const TorchTensor& tensor : file.tensors()) shapes.emplace_back(tensor.name, tensor.shape);
  return shapes;
}

// A file with tensors of these shapes, all of the same number.
void write(const std::filesystem::path& path, const Shapes& shapes, float number = 0.5f) {
  const std::vector<float> numbers(10000, number);
  std::vector<Tensor> tensors;
  for (const auto& [name, shape] : shapes) {
    std::size_t count = 1;
    for (const std::uint64_t size : shape) count *= size;
    tensors.push_back(make_tensor<float>(name, shape, std::span(numbers).first(count)));
  }
  test::write_text(path, torch_file(tensors));
}

const Shapes kCartPole = {{"actor.0.weight", {16, 4}},  {"actor.0.bias", {16}},       {"actor.2.weight", {2, 16}},
                          {"actor.2.bias", {2}},        {"critic.0.weight", {16, 4}}, {"critic.0.bias", {16}},
                          {"critic.2.weight", {1, 16}}, {"critic.2.bias", {1}}};

// The error of importing CartPole's tensors with these changed, added or (shape {}) left out.
std::string error_of(const std::vector<std::pair<std::string, std::optional<Shape>>>& changes, float number = 0.5f) {
  Files files;
  std::map<std::string, Shape> all(kCartPole.begin(), kCartPole.end());
  for (const auto& [name, shape] : changes) {
    if (shape) all[name] = *shape;
    if (!shape) all.erase(name);
  }
  write(files.state, {all.begin(), all.end()}, number);
  try {
    import_state({files.state, {}}, {{}, {}, {{"env_id", "CartPole-v1"}, {"activation", "tanh"}}}, files.policy);
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kFailed);
    EXPECT_THAT(error.what(), AllOf(testing::StartsWith(files.state.string()), HasSubstr(" - ")));
    EXPECT_FALSE(std::filesystem::exists(files.policy));
    return error.what();
  }
  return "no error";
}

TEST(StateDictionary, SequentialComesBackWithTheSameBits) {
  for (const auto& [env_id, sizes] :
       {std::pair("CartPole-v1", "16"), std::pair("CartPole-v1", "24,7,33"), std::pair("LunarLander-v3", "64,64"),
        std::pair("LunarLanderContinuous-v3", "32,24,8,5,4,3,2,1")}) {
    const Files files;
    const SavedPolicy policy = random_policy(env_id, sizes);
    const ExportedState exported = export_state(policy, StateLayout::kSequential, files.state);
    EXPECT_EQ(exported.files, std::vector{files.state});
    EXPECT_TRUE(exported.notes.empty());
    const ImportedState imported = import_state({files.state, {}}, settings_of(policy), files.policy);
    EXPECT_TRUE(imported.notes.empty());
    const SavedPolicy read = load_policy(files.policy);
    EXPECT_EQ(read.parameters, policy.parameters) << env_id;
    EXPECT_EQ(joined(layer_sizes(read.config)), joined(layer_sizes(policy.config)));
    EXPECT_EQ(read.config.env_id, env_id);
    EXPECT_EQ(read.config.activation, Activation::kRelu);
    EXPECT_EQ(read.metadata.at("from_path"), files.state.string());
  }
}

TEST(StateDictionary, KeysAreThoseOfOtherPrograms) {
  const Files files;
  export_state(random_policy("CartPole-v1", "16"), StateLayout::kSequential, files.state);
  EXPECT_THAT(shapes_in(files.state), testing::UnorderedElementsAreArray(kCartPole));
  const SavedPolicy continuous = random_policy("LunarLanderContinuous-v3", "64,32");
  export_state(continuous, StateLayout::kSequential, files.state);
  EXPECT_THAT(shapes_in(files.state), testing::IsSupersetOf(Shapes{{"actor_mean.0.weight", {64, 8}},
                                                                   {"actor_mean.2.weight", {32, 64}},
                                                                   {"actor_mean.4.bias", {2}},
                                                                   {"actor_logstd", {1, 2}},
                                                                   {"critic.4.weight", {1, 32}}}));
  EXPECT_EQ(export_state(continuous, StateLayout::kLayers, files.directory.path()).files,
            (std::vector{files.actor, files.critic}));
  EXPECT_EQ(shapes_in(files.actor), (Shapes{{"input_layer.weight", {64, 8}},
                                            {"input_layer.bias", {64}},
                                            {"hidden_layer.weight", {32, 64}},
                                            {"hidden_layer.bias", {32}},
                                            {"output_layer.weight", {2, 32}},
                                            {"output_layer.bias", {2}}}));
  EXPECT_EQ(shapes_in(files.critic).back(), (std::pair<std::string, Shape>("output_layer.bias", {1})));
}

const std::vector<std::string> kLeftOut = {
    "the logarithms of the actions' standard deviations (-0.375, -0.375) are not in this layout"};

TEST(StateDictionary, LayersComeBackButForStandardDeviations) {
  for (const char* sizes : {"16", "64,40"}) {
    for (const char* env_id : {"CartPole-v1", "LunarLanderContinuous-v3"}) {
      const Files files;
      const SavedPolicy policy = random_policy(env_id, sizes);
      const bool continuous = find_environment(env_id).action_space.continuous;
      const ExportedState exported = export_state(policy, StateLayout::kLayers, files.directory / "new");
      EXPECT_EQ(exported.notes, continuous ? kLeftOut : std::vector<std::string>());
      const StateFiles sources = {exported.files[0], exported.files[1]};
      ConfigSource settings = settings_of(policy);
      if (continuous) {
        EXPECT_THAT(usage_error([&] { import_state(sources, settings, files.policy); }),
                    HasSubstr("weights do not tell log_std_init"));
        settings.settings.push_back({"log_std_init", -0.375});
      }
      const ImportedState imported = import_state(sources, settings, files.policy);
      EXPECT_EQ(imported.notes.size(), continuous ? 1u : 0u);
      EXPECT_EQ(load_policy(files.policy).parameters, policy.parameters) << env_id << sizes;
    }
  }
}

TEST(StateDictionary, OtherNamesOfTheSame) {
  const Files files;
  write(files.actor,
        {{"0.weight", {16, 8}}, {"0.bias", {16}}, {"2.weight", {2, 16}}, {"2.bias", {2}}, {"log_std", {2}}}, 0.25f);
  write(files.critic,
        {{"input_layer.weight", {16, 8}},
         {"input_layer.bias", {16}},
         {"output_layer.weight", {1, 16}},
         {"output_layer.bias", {1}}},
        -0.75f);
  const ConfigSource settings = {"lunar-lander-continuous", {}, {}};
  const SavedPolicy policy = import_state({files.actor, files.critic}, settings, files.policy).policy;
  const Model model = model_of(policy.config);
  for (const ModelTensor& tensor : model.tensors) {
    EXPECT_EQ(policy.parameters[tensor.offset], tensor.name.starts_with("actor") ? 0.25f : -0.75f) << tensor.name;
  }
  EXPECT_EQ(joined(layer_sizes(policy.config)), "16");
  EXPECT_EQ(policy.config.name, "lunar-lander-continuous");
}

TEST(StateDictionary, MissingExtraAndMisshapenTensors) {
  EXPECT_EQ(error_of({}), "no error");
  EXPECT_THAT(error_of({{"critic.2.bias", {}}}), HasSubstr("has no tensor 'critic.2.bias'"));
  EXPECT_THAT(error_of({{"actor.0.weight", {}}}), HasSubstr("holds no actor"));
  EXPECT_THAT(error_of({{"actor.4.weight", Shape{2, 2}}}),
              HasSubstr("actor's layers are 4-16-2-2, the critic's 4-16-1"));
  EXPECT_THAT(error_of({{"actor.3.weight", Shape{2, 2}}}),
              AllOf(HasSubstr("'actor.3.weight' [2, 2] that no layer takes - allowed: actor.0.bias, ")));
  EXPECT_THAT(error_of({{"critic.1.running_mean", Shape{16}}}), HasSubstr("'critic.1.running_mean' [16]"));
  EXPECT_THAT(error_of({{"actor.0.bias", Shape{15}}}), HasSubstr("'actor.0.bias' has shape [15], but the actor of "
                                                                 "CartPole-v1 with hidden layers of 16 has [16]"));
  EXPECT_THAT(error_of({{"actor.2.weight", Shape{3, 16}}}), HasSubstr("has [2, 16]"));
  EXPECT_THAT(error_of({{"critic.2.weight", Shape{2, 16}}}), HasSubstr("the critic of CartPole-v1"));
  EXPECT_THAT(error_of({{"actor.2.weight", Shape{2, 15}}}), HasSubstr("allowed: [outputs, 16]"));
  EXPECT_THAT(error_of({{"actor.2.weight", Shape{32}}}), HasSubstr("shape [32] - allowed: [outputs, 16]"));
  EXPECT_THAT(error_of({{"actor.0.weight", Shape{16, 5}}, {"critic.0.weight", Shape{16, 5}}}),
              HasSubstr("has [16, 4]"));
  EXPECT_THAT(error_of({{"actor_logstd", Shape{1, 2}}}), HasSubstr("those of CartPole-v1 are discrete"));
  EXPECT_THAT(error_of({{"actor.0.weight", Shape{2, 4}},
                        {"actor.2.weight", {}},
                        {"critic.0.weight", Shape{1, 4}},
                        {"critic.2.weight", {}}}),
              HasSubstr("its actor has one layer"));
  EXPECT_THAT(error_of({{"actor.0.weight", Shape{0, 4}},
                        {"actor.2.weight", Shape{2, 0}},
                        {"critic.0.weight", Shape{0, 4}},
                        {"critic.2.weight", Shape{1, 0}}}),
              HasSubstr("hidden_sizes"));
  EXPECT_THAT(error_of({}, std::numeric_limits<float>::quiet_NaN()),
              HasSubstr("tensor 'actor.0.weight' has nan at [0, 0]"));
}

TEST(StateDictionary, WhatIsNotToldIsAskedFor) {
  const Files files;
  write(files.state, kCartPole);
  const auto error = [&](const std::vector<Setting>& settings, std::optional<std::string> preset = {}) {
    return usage_error([&] { import_state({files.state, {}}, {preset, {}, settings}, files.policy); });
  };
  EXPECT_THAT(error({}), HasSubstr("weights do not tell env_id - allowed: CartPole-v1 - give it with --set env_id"));
  EXPECT_THAT(error({{"env_id", "CartPole-v1"}}), HasSubstr("weights do not tell activation - allowed: tanh | relu"));
  EXPECT_EQ(error({}, "cartpole"), "no error");
  EXPECT_THAT(error({{"hidden_width", 64}}, "cartpole"), HasSubstr("hidden_width = 64, but"));
  EXPECT_EQ(error({{"hidden_sizes", "16"}}, "cartpole"), "no error");
  EXPECT_THAT(error({{"activation", "gelu"}}, "cartpole"), HasSubstr("'gelu'"));
  EXPECT_THAT(error({}, "cartpool"), HasSubstr("cartpole"));
  const auto to = [&](const std::filesystem::path& file, const std::filesystem::path& name) {
    return usage_error([&] { import_state({file, {}}, kCartPolePreset, name); });
  };
  EXPECT_THAT(to(files.state, files.directory / "policy.pth"), HasSubstr("names that end in .safetensors"));
  EXPECT_THAT(to(files.directory / "missing.pth", files.policy), HasSubstr("is no file"));
  EXPECT_THAT(to(files.directory.path(), files.policy), HasSubstr("is no file"));
}

TEST(StateDictionary, OneNetworkIsNotEnough) {
  const Files files;
  export_state(random_policy("CartPole-v1", "16"), StateLayout::kLayers, files.directory.path());
  const auto error = [&](const StateFiles& sources) -> std::string {
    try {
      import_state(sources, kCartPolePreset, files.policy);
    } catch (const Error& caught) {
      return caught.what();
    }
    return "no error";
  };
  EXPECT_THAT(error({files.actor, {}}), HasSubstr("give the actor's file and then the critic's"));
  EXPECT_THAT(error({files.critic, files.actor}), HasSubstr("'output_layer.weight' has shape [1, 16], but the actor"));
  EXPECT_EQ(error({files.actor, files.critic}), "no error");
}

TEST(StateDictionary, NothingIsLostWhereItFails) {
  const Files files;
  test::write_text(files.policy, "precious");
  test::write_text(files.state, "precious");
  EXPECT_THROW(import_state({files.state, {}}, kCartPolePreset, files.policy), Error);
  EXPECT_EQ(test::read_text(files.policy), "precious");
  const SavedPolicy policy = random_policy("CartPole-v1", "16,16,16");
  EXPECT_THAT(usage_error([&] { export_state(policy, StateLayout::kLayers, files.directory.path()); }),
              HasSubstr("hidden layers of 16, 16, 16 - allowed: 1 or 2"));
  EXPECT_THAT(usage_error([&] { export_state(policy, StateLayout::kSequential, files.policy); }),
              HasSubstr("end in .pt or .pth"));
  const SavedPolicy small = random_policy("CartPole-v1", "16");
  for (const std::filesystem::path& to : {files.state, files.policy}) {
    EXPECT_THAT(usage_error([&] { export_state(small, StateLayout::kLayers, to); }), HasSubstr("name a directory"));
    EXPECT_EQ(test::read_text(to), "precious");
  }
  EXPECT_FALSE(std::filesystem::exists(files.actor));
}

}  // namespace
}  // namespace perilune

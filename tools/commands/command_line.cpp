// The only file that includes CLI11. See command_line.hpp.
#include "tools/commands/command_line.hpp"

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include <CLI/CLI.hpp>

#include "host/base/build_info.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"
#include "tools/commands/terminal.hpp"

namespace perilune {
namespace {

constexpr std::string_view kExitCodes =
    "\n\nExit codes:\n"
    "  0 done  1 failed  2 wrong usage  3 no usable device  130 interrupted and saved";

// CLI11's layout in 80 columns, with descriptions wrapped.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { label("Positionals", "Arguments"); }

  std::string make_option(const CLI::Option* option, bool is_positional) const override {
    const std::string name =
        is_positional ? option->get_type_name() : make_option_name(option, false) + make_option_opts(option);
    return entry("  " + name, option->get_description());
  }
  std::string make_subcommand(const CLI::App* command) const override {
    return entry("  " + command->get_name(), command->get_description());
  }
  // Only the type: whether an option can be repeated is in its description.
  std::string make_option_opts(const CLI::Option* option) const override {
    return option->get_type_size() == 0 ? "" : " " + option->get_type_name();
  }
  std::string make_option_name(const CLI::Option* option, bool) const override {
    const std::string long_name = "--" + option->get_lnames().front();
    return option->get_snames().empty() ? "    " + long_name : "-" + option->get_snames().front() + ", " + long_name;
  }
  std::string make_usage(const CLI::App* app, std::string) const override {
    const std::string command = app->get_parent() == nullptr ? "" : " " + app->get_name();
    std::string usage = "\nUsage:\n  perilune" + command;
    if (app->get_parent() == nullptr) return usage + " COMMAND [OPTIONS]\n";
    for (const CLI::Option* option : app->get_options()) {
      if (!option->get_positional()) continue;
      usage += option->get_required() ? " " + option->get_type_name() : " [" + option->get_type_name() + "]";
    }
    return usage + " [OPTIONS]\n";
  }

 private:
  static constexpr std::size_t kNameWidth = 26;
  static constexpr std::size_t kWidth = 80;

  static std::string entry(std::string name, std::string_view description) {
    std::string out = std::move(name);
    std::size_t column = out.size();
    const auto indent = [&] {
      if (column > kNameWidth - 2) {
        out += '\n';
        column = 0;
      }
      out.append(kNameWidth - column, ' ');
      column = kNameWidth;
    };
    indent();
    while (!description.empty()) {
      const std::size_t space = std::min(description.find(' '), description.size());
      if (column > kNameWidth && column + 1 + space > kWidth) {
        indent();
      } else if (column > kNameWidth) {
        out += ' ';
        ++column;
      }
      out += description.substr(0, space);
      column += space;
      description.remove_prefix(std::min(space + 1, description.size()));
    }
    return out + '\n';
  }
};

// What was given for an option.
struct Given {
  const Option* option = nullptr;
  bool flag = false;
  std::optional<std::string> value;
  std::vector<std::string> settings;

  bool any() const { return flag || value || !settings.empty(); }
};

// Tells CLI11 of an option, whose values it writes to `given`.
void add_option(CLI::App& app, Given& given) {
  const Option& option = *given.option;
  const std::string help(option.help);
  std::string names(option.name);
  if (option.kind == OptionKind::kOption) names = "--" + names;
  if (option.letter != '\0') names = std::string("-") + option.letter + "," + names;
  if (std::holds_alternative<bool*>(option.to)) {
    app.add_flag(names, given.flag, help);
    return;
  }
  CLI::Option* const added = std::holds_alternative<TakeValue>(option.to)
                                 ? app.add_option(names, given.value, help)
                                 : app.add_option(names, given.settings, help)->take_all()->allow_extra_args(false);
  added->type_name(std::string(option.value))->required(option.kind == OptionKind::kRequiredArgument);
}

// A command as CLI11 parses it. Stays where it is: CLI11 knows where `given` lies.
struct ParsedCommand {
  ParsedCommand(CLI::App& program, const Command& its_command)
      : command(its_command),
        app(*program.add_subcommand(std::string(command.name), std::string(command.summary))),
        given(command.options.size()) {
    app.allow_extras();
    app.group("Commands");
    app.footer(std::string(command.help) + std::string(kExitCodes));
    for (std::size_t i = 0; i < given.size(); ++i) {
      given[i].option = &command.options[i];
      add_option(app, given[i]);
    }
  }
  ParsedCommand(const ParsedCommand&) = delete;
  ParsedCommand& operator=(const ParsedCommand&) = delete;

  const Command& command;
  CLI::App& app;
  std::vector<Given> given;  // one per option
};

void check_conflicts(const ParsedCommand& parsed) {
  const auto any_given = [&](const std::vector<std::string_view>& names) {
    return std::any_of(parsed.given.begin(), parsed.given.end(), [&](const Given& given) {
      return given.any() && std::find(names.begin(), names.end(), given.option->name) != names.end();
    });
  };
  for (const Conflict& conflict : parsed.command.conflicts) {
    if (any_given(conflict.some) && any_given(conflict.others)) throw UsageError(std::string(conflict.error));
  }
}

void take_values(const ParsedCommand& parsed) {
  for (const Given& given : parsed.given) {
    const Option& option = *given.option;
    if (const auto* flag = std::get_if<bool*>(&option.to)) {
      **flag = given.flag;
    } else if (const auto* settings = std::get_if<std::vector<Setting>*>(&option.to)) {
      for (const std::string& text : given.settings) (*settings)->push_back(parse_setting(text));
    } else if (given.value) {
      std::get<TakeValue>(option.to)(shown_name(option), *given.value);
    }
  }
}

// The error of the command whose required argument is missing.
[[noreturn]] void fail_missing(const std::deque<ParsedCommand>& commands) {
  for (const ParsedCommand& parsed : commands) {
    if (!parsed.app.parsed()) continue;
    for (const Given& given : parsed.given) {
      const Option& option = *given.option;
      if (option.kind != OptionKind::kRequiredArgument || given.any()) continue;
      throw UsageError(formatted("{} is missing - give {} - `perilune {} --help` explains", option.value, option.help,
                                 parsed.command.name));
    }
  }
  throw std::logic_error("no required argument is missing");
}

// What no option or command took, without the "--" that ends options.
std::vector<std::string> unexpected_arguments(const CLI::App& command) {
  std::vector<std::string> extra = command.remaining();
  std::erase(extra, "--");
  return extra;
}

// The error of such an argument, with the nearest known name.
[[noreturn]] void fail_unexpected(const CLI::App& command, std::string_view argument) {
  const bool is_main = command.get_parent() == nullptr;
  const std::string help = is_main ? "perilune --help" : "perilune " + command.get_name() + " --help";
  std::vector<std::string> names;
  const bool is_option = argument.starts_with('-');
  if (is_option) {
    argument = argument.substr(0, argument.find('='));
    for (const CLI::Option* option : command.get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
  } else if (is_main) {
    for (const CLI::App* known : command.get_subcommands([](const CLI::App*) { return true; })) {
      names.push_back(known->get_name());
    }
  } else {
    throw UsageError(formatted("unexpected argument {} - `{}` shows what there is", in_quotes(argument), help));
  }
  const std::vector<std::string_view> known(names.begin(), names.end());
  throw UsageError(formatted("unknown {} {} - did you mean {}? - `{}` shows all", is_option ? "option" : "command",
                             in_quotes(argument), nearest(argument, known), help));
}

Command printing(std::string text) {
  Command command;
  command.run = [text = std::move(text)](const Process&) {
    Terminal out = Terminal::standard_output();
    out.print(text);
    out.check();
    return ExitCode::kOk;
  };
  return command;
}

std::string version_text() { return formatted("perilune {} ({})\n", build_info().version, build_info().commit); }

}  // namespace

Command parse_command_line(const Program& program, std::span<const std::string> arguments) {
  bool version = false;
  CLI::App app(std::string(program.summary), "perilune");
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_help_flag("-h,--help", "show this help");
  app.option_defaults()->take_last();
  app.add_flag("--version", version, "show the version");
  app.footer(std::string(program.help) + std::string(kExitCodes));
  app.allow_extras();  // collected, so that the nearest known name can be given
  std::deque<ParsedCommand> commands;
  std::vector<std::string_view> names;
  for (const Command& command : program.commands) {
    commands.emplace_back(app, command);
    names.push_back(command.name);
  }

  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp&) {
    return printing(app.help());
  } catch (const CLI::RequiredError&) {
    fail_missing(commands);
  } catch (const CLI::Error& error) {
    throw UsageError(formatted("{} - `perilune --help` explains", error.what()));
  }
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  for (const CLI::App* command : chosen) {
    const std::vector<std::string> extra = unexpected_arguments(*command);
    if (!extra.empty()) fail_unexpected(*command, extra.front());
  }
  const std::vector<std::string> extra = unexpected_arguments(app);
  if (!extra.empty()) fail_unexpected(app, extra.front());
  if (version) return printing(version_text());
  if (chosen.empty()) {
    throw UsageError(formatted("no command - allowed: {} - `perilune --help` explains", joined(names)));
  }
  if (chosen.size() > 1) fail_unexpected(*chosen.front(), chosen.back()->get_name());

  const auto asked_for = std::find_if(commands.begin(), commands.end(),
                                      [&](const ParsedCommand& parsed) { return &parsed.app == chosen.front(); });
  check_conflicts(*asked_for);
  take_values(*asked_for);
  return asked_for->command;
}

}  // namespace perilune
